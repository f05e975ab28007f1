#!/bin/sh
# Makes binding.pem: self-signed certificates of every kind of signature, each under a line with the hash that openssl computes for its
# tls-server-end-point binding (or `undefined`).
set -eu
one() { # name, digest of the binding, key options, signing options
    openssl genpkey $3 -out key.pem 2>/dev/null
    openssl req -x509 -new -key key.pem -subj "/CN=$1" -days 36500 $4 -out cert.pem
    hash=undefined
    if [ "$2" != undefined ]; then
        hash=$(openssl x509 -in cert.pem -outform DER | openssl dgst "-$2" -r | cut -d' ' -f1)
    fi
    echo "binding $1 $hash"
    cat cert.pem
}
rsa="-algorithm RSA -pkeyopt rsa_keygen_bits:2048"
pss="-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1"
ec() { echo "-algorithm EC -pkeyopt ec_paramgen_curve:$1"; }
one rsa-md5 sha256 "$rsa" -md5
one rsa-sha1 sha256 "$rsa" -sha1
one rsa-sha224 sha224 "$rsa" -sha224
one rsa-sha256 sha256 "$rsa" -sha256
one rsa-sha384 sha384 "$rsa" -sha384
one rsa-sha512 sha512 "$rsa" -sha512
one pss-sha1 sha256 "$rsa" "-sha1 $pss"
one pss-sha256 sha256 "$rsa" "-sha256 $pss"
one pss-sha384 sha384 "$rsa" "-sha384 $pss"
one pss-sha512 sha512 "$rsa" "-sha512 $pss"
one p256-sha1 sha256 "$(ec P-256)" -sha1
one p256-sha224 sha224 "$(ec P-256)" -sha224
one p256-sha256 sha256 "$(ec P-256)" -sha256
one p384-sha384 sha384 "$(ec P-384)" -sha384
one p521-sha512 sha512 "$(ec P-521)" -sha512
one p256-sha384 sha384 "$(ec P-256)" -sha384
one ed25519 undefined "-algorithm ED25519" ""
one ed448 undefined "-algorithm ED448" ""
rm -f key.pem cert.pem
