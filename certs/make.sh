#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes development certificates: a CA of their own, a server's and a client's.
#
#     certs/make.sh [DIRECTORY]       default: build/certs
#
#     ca.pem       the CA's certificate: what the other side is told to trust
#     ca.key       its key; only this script reads it
#     server.pem   key and certificate in one file, for localhost, 127.0.0.1, ::1 and this host
#     client.pem   key and certificate in one file, for clients that have to show one
#
# What is there and good for another week is kept; a new CA renews all three.
set -eu
umask 077

days=365
week_s=604800
dir=${1:-$(dirname "$0")/../build/certs}
mkdir -p "$dir"
cd "$dir"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Runs openssl and shows what it said only if it failed.
quietly() {
    if ! "$@" >"$work/said" 2>&1; then
        echo "make.sh: '$*' failed:" >&2
        cat "$work/said" >&2
        exit 1
    fi
}

is_good() {
    [ -s "$1" ] && openssl x509 -in "$1" -noout -checkend "$week_s" >/dev/null 2>&1
}

is_ours() {
    is_good "$1" && openssl verify -CAfile ca.pem "$1" >/dev/null 2>&1
}

# A host that got another name needs a new server certificate.
names_this_host() {
    openssl x509 -in server.pem -noout -checkhost "$host" | grep -q 'does match'
}

new_key() {
    quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

make_ca() {
    new_key "$work/ca.key"
    cat >"$work/ca.cnf" <<EOF
[req]
distinguished_name = dn
x509_extensions = ca
prompt = no
[dn]
O = weir development
CN = weir development CA
[ca]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
EOF
    quietly openssl req -x509 -new -sha256 -days "$days" -config "$work/ca.cnf" \
        -key "$work/ca.key" -out "$work/ca.pem"
    mv "$work/ca.key" ca.key
    mv "$work/ca.pem" ca.pem
    chmod 644 ca.pem
}

# make_leaf FILE USAGE COMMON_NAME [SAN]: key and certificate into one file, replaced at once.
make_leaf() {
    new_key "$work/key"
    {
        echo "basicConstraints = critical, CA:false"
        echo "keyUsage = critical, digitalSignature"
        echo "extendedKeyUsage = $2"
        echo "subjectKeyIdentifier = hash"
        echo "authorityKeyIdentifier = keyid"
        [ -z "${4:-}" ] || echo "subjectAltName = $4"
    } >"$work/extensions"
    quietly openssl req -new -sha256 -key "$work/key" -subj "/O=weir development/CN=$3" \
        -out "$work/request"
    quietly openssl x509 -req -sha256 -days "$days" -in "$work/request" \
        -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" \
        -extfile "$work/extensions" -out "$work/certificate"
    cat "$work/key" "$work/certificate" >"$work/both"
    mv "$work/both" "$1"
}

host=$(hostname 2>/dev/null || uname -n)
[ -s ca.key ] && is_good ca.pem || make_ca
is_ours server.pem && names_this_host ||
    make_leaf server.pem serverAuth localhost "DNS:localhost,IP:127.0.0.1,IP:::1,DNS:$host"
is_ours client.pem || make_leaf client.pem clientAuth weir-development-client
