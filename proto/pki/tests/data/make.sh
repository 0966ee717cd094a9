#!/bin/sh
# Made the files beside this one, once: OpenSSL 3.0.19, GnuTLS 3.7.9, NSS 3.87, keytool of OpenJDK 17, on Debian 12.
# The tests read the files, and need none of these programs. The keys were thrown away.
set -e
out=$PWD
work=$(mktemp -d)
cd "$work"
days=9000
p256="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

# --- an authority, and lists of it
openssl req -x509 $p256 -keyout ca.key -out ca.pem -subj "/CN=members" -days $days 2>/dev/null
cp ca.pem "$out/ca.pem"
printf '01\n' > number
: > index
cat > ca.cnf <<CNF
[ca]
default_ca = a
[a]
database = index
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_crl_days = $days
[n]
database = index
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_crl_days = $days
crlnumber = number
[delta]
2.5.29.27 = critical,DER:020101
[unknown]
1.3.6.1.4.1.99999.1 = critical,DER:0500
[point]
issuingDistributionPoint = critical,@full
[full]
fullname = URI:http://ca.example/a.crl
[users]
issuingDistributionPoint = critical,@usersonly
[usersonly]
onlyuser = TRUE
[reasons]
issuingDistributionPoint = critical,@some
[some]
fullname = URI:http://ca.example/a.crl
onlysomereasons = keyCompromise
[indirect]
issuingDistributionPoint = critical,@other
[other]
fullname = URI:http://ca.example/a.crl
indirectCRL = TRUE
CNF
list() { name=$1; shift; openssl ca -gencrl -config ca.cnf -out "$out/list-$name.pem" "$@" 2>/dev/null; }
list v1 -name a
list good -name n -crl_lastupdate 20260101000000Z
list sha1 -name n -md sha1
for it in delta unknown point users reasons indirect; do list $it -name n -crlexts $it; done
# No nextUpdate: none of the commands leaves it out, so it is cut out of the good one, and that is signed again.
openssl crl -in "$out/list-good.pem" -outform DER -out good.der
cat > cut.py <<'PY'
import subprocess
def tlv(b, i=0):
    n, h = b[i + 1], 2
    if n & 0x80:
        h += n & 0x7f
        n = int.from_bytes(b[i + 2:i + h], "big")
    return b[i:i + h + n], b[i + h:i + h + n]
def seq(b):
    n = len(b)
    l = bytes([n]) if n < 128 else bytes([0x81, n]) if n < 256 else bytes([0x82, n >> 8, n & 255])
    return b"\x30" + l + b
def parts(b):
    i = 0
    while i < len(b):
        whole, _ = tlv(b, i)
        yield whole
        i += len(whole)
tbs, algorithm, _ = parts(tlv(open("good.der", "rb").read())[1])
inside = list(parts(tlv(tbs)[1]))
del inside[4]
tbs = seq(b"".join(inside))
open("tbs", "wb").write(tbs)
subprocess.run("openssl dgst -sha256 -sign ca.key -out sig tbs", shell=True, check=True)
sig = b"\0" + open("sig", "rb").read()
open("cut.der", "wb").write(seq(tbs + algorithm + b"\x03" + bytes([len(sig)]) + sig))
PY
python3 cut.py
openssl crl -inform DER -in cut.der -out "$out/list-nonext.pem"
# NSS
mkdir nss && certutil -N -d nss --empty-password
certutil -S -d nss -n members -s CN=nss -x -t CTu,Cu,Cu -m 1 -v 120 -2 -z "$out/make.sh" >/dev/null 2>&1 <<ANS
y

n
ANS
certutil -L -d nss -n members -a > "$out/nss-ca.pem"
crlutil -G -d nss -n members -c /dev/null -f /dev/null >/dev/null 2>&1 || true
printf 'update=20260101000000Z\nnextupdate=20400101000000Z\n' > gen
crlutil -G -d nss -n members -c gen -a -o "$out/list-nss.pem" >/dev/null 2>&1 || echo "no NSS list"
[ -s "$out/list-nss.pem" ] || crlutil -L -d nss -n members -a > "$out/list-nss.pem" || true
# keytool
keytool -genkeypair -alias ca -keyalg EC -groupname secp256r1 -dname CN=java -ext bc:c -validity $days -storepass secret -keystore ks 2>/dev/null
keytool -exportcert -alias ca -rfc -storepass secret -keystore ks > "$out/keytool-ca.pem" 2>/dev/null
keytool -gencrl -alias ca -id 7 -rfc -storepass secret -keystore ks > "$out/list-keytool.pem" 2>/dev/null

# --- authorities with keys of every kind
authority() { name=$1; shift; openssl req -x509 "$@" -keyout $name.key -out "$out/authority-$name.pem" -nodes -subj "/CN=$name" -days $days 2>/dev/null; }
authority brainpool -newkey ec -pkeyopt ec_paramgen_curve:brainpoolP256r1
authority secp256k1 -newkey ec -pkeyopt ec_paramgen_curve:secp256k1
authority explicit -newkey ec -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit
authority ed448 -newkey ed448
authority ed25519 -newkey ed25519
authority p521 -newkey ec -pkeyopt ec_paramgen_curve:P-521
authority rsa1024 -newkey rsa:1024
authority rsapss -newkey rsa-pss -pkeyopt rsa_keygen_bits:2048
authority sha1 $p256 -sha1
certtool --generate-privkey --ecc --outfile gt.key 2>/dev/null
printf 'cn = "gnutls"\nca\ncert_signing_key\nexpiration_days = -1\n' > t
certtool --generate-self-signed --load-privkey gt.key --template t --outfile gt.pem 2>/dev/null
sed -n '/BEGIN/,$p' gt.pem > "$out/authority-endless.pem"
openssl req $p256 -keyout v1.key -out v1.csr -subj /CN=v1 2>/dev/null
openssl x509 -req -in v1.csr -signkey v1.key -days $days -out "$out/authority-v1.pem" 2>/dev/null
printf 'cn = "no ca"\nexpiration_days = 9000\n' > t
certtool --generate-self-signed --load-privkey gt.key --template t --outfile gt.pem 2>/dev/null
sed -n '/BEGIN/,$p' gt.pem > "$out/authority-noca.pem"
rm -rf "$work"
