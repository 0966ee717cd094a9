//! Compiles the .proto files in pure Rust (no protoc), keeping the descriptor set for gRPC reflection.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 4] = [
        "dd/v1/site.proto",
        "dd/v1/delivery.proto",
        "dd/v1/enrollment.proto",
        "dd/v1/admin.proto",
    ];
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(
        out.join("dd.v1.descriptors"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    // What is large lies in a box: an event passes through a dozen hands, and each moves as many bytes as the largest
    // of its kind has.
    const LARGE: [&str; 6] = [
        ".dd.v1.AgentEvent.event.journaled",
        ".dd.v1.AgentEvent.event.proved",
        ".dd.v1.AgentEvent.event.report",
        ".dd.v1.Order.order.assignment",
        ".dd.v1.Order.order.check",
        ".dd.v1.Order.order.route_plan",
    ];
    let config = LARGE
        .into_iter()
        .fold(tonic_prost_build::configure(), |config, path| {
            config.boxed(path)
        });
    // They hold a secret, and are shown without: src/convert/unshown.rs.
    let config = config.skip_debug([
        ".dd.v1.AddAgentResponse",
        ".dd.v1.IssuedCertificate",
        ".dd.v1.JoinRequest",
        ".dd.v1.JoinToken",
        ".dd.v1.Login",
        ".dd.v1.SitePassword",
        ".dd.v1.SitePasswordRequest",
        ".dd.v1.SiteSpec",
        ".dd.v1.WakeSecretResponse",
    ]);
    config.bytes(".").compile_fds(descriptors)?;
    Ok(())
}
