//! What a status says to programs: `google.rpc.BadRequest` in `grpc-status-details-bin`, as gRPC libraries read it.
//!
//! Four small messages, written out: a crate for them would bring all of `google.rpc`.

use prost::Message;
use tonic::{Code, Status};

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Rich {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

/// INVALID_ARGUMENT with a sentence, and with the field it is about.
pub(super) fn bad_request(field: String, sentence: String) -> Status {
    let violation = FieldViolation {
        field,
        description: sentence.clone(),
    };
    let request = BadRequest {
        field_violations: vec![violation],
    };
    let rich = Rich {
        code: Code::InvalidArgument.into(),
        message: sentence.clone(),
        details: vec![Any {
            type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
            value: request.encode_to_vec(),
        }],
    };
    Status::with_details(Code::InvalidArgument, sentence, rich.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_which_field_it_is() {
        let status = bad_request(
            "report.lease".to_owned(),
            "report: lease is missing".to_owned(),
        );
        let rich = Rich::decode(status.details()).unwrap();
        assert_eq!(rich.code, 3);
        let [detail] = &rich.details[..] else {
            panic!("one detail");
        };
        let request = BadRequest::decode(&detail.value[..]).unwrap();
        assert_eq!(request.field_violations[0].field, "report.lease");
        assert_eq!(request.field_violations[0].description, rich.message);
    }
}
