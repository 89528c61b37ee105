package secretscan

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	mrand "math/rand/v2"
	"strings"
	"testing"
)

func TestLikely(t *testing.T) {
	for want, values := range map[bool]string{
		false: `us-east-1
ap-southeast-1
eu-central-1-production
my-project-name-staging
production
jonathan.smith
jonathan.smith@example.com
Bartholomew Featherstonehaugh
registry.internal.example-company.com:5000
https://nexus.example.com/repository/Maven2-Releases
2024-01-15T10:30:00Z
20240115T103000Z
x86_64-unknown-linux-gnu
node20-bookworm-slim
v1.2.3-alpine3.20
123456789012
192.168.100.200
arn:aws:iam::123456789012:role/MyRole
/usr/local/share/ca-certificates
MyProjectVersion2Beta
tokenizer: bert-base
{"region": "us-east-1", "zones": 3}
index-url = https://pypi.org/simple
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkZmWkKkO2q7m1n3n1mYw0w9Jq3dT5bY7fX2hQ0pV1s me@laptop
short1!`,
		true: `s3cr3t/Tok+en~v4lue
xK9mQ2vLr8Tz
9f86d081884c7d65
5f4dcc3b5aa765d61d8327deb882cf99
550e8400-e29b-41d4-a716-446655440000
JBSWY3DPEHPK3PXP
P@ssw0rd2024!
correct horse battery staple
kqjzxvbnmwrtplsd
AKIAIOSFODNN7EXAMPLE
wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
ghp_aaaaaaaaaaaaaaaaaaaa
https://user:hunter2@host.example/x
DB_PASSWORD=hunter2
password: hunter22
machine example.com login me password hunter22
//registry.npmjs.org/:_authToken=abcdefgh
Authorization: Bearer abcdefghijkl
{"auths": {"ghcr.io": {"auth": "bWU6aHVudGVyMg=="}}}
eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln
$2y$10$abcdefghijklmnopqrstuv`,
	} {
		for value := range strings.SplitSeq(values, "\n") {
			if got := Likely([]byte(value + "\n")); got != want {
				t.Errorf("%s: %v", value, got)
			}
		}
	}
	if !Likely([]byte("\x30\x82\x01\x00 and so on")) {
		t.Error("what is no text is nothing")
	}
}

// TestLikelyDrawn draws values by lot: nearly all of some length look like secrets.
func TestLikelyDrawn(t *testing.T) {
	const lower, upper, digits = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
	r := mrand.New(mrand.NewPCG(1, 2))
	for _, c := range []struct {
		alphabet string
		length   int
		least    int // of 1000
	}{
		{lower + upper + digits, 12, 900},
		{lower + upper + digits, 16, 980},
		{lower + upper + digits + "+/", 32, 998},
		{lower + digits, 16, 960},
		{lower, 16, 930},
		{upper + "234567", 16, 930},
		{"0123456789abcdef", 16, 930},
		{"0123456789abcdef", 32, 1000},
	} {
		found := 0
		for range 1000 {
			b := make([]byte, c.length)
			for i := range b {
				b[i] = c.alphabet[r.IntN(len(c.alphabet))]
			}
			if Likely(b) {
				found++
			}
		}
		if found < c.least {
			t.Errorf("%d letters of %q: %d of 1000, want %d", c.length, c.alphabet, found, c.least)
		}
	}
}

// A certificate is public in either form, and beside a private key only the key is secret.
func TestLikelyCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example CA"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	bundle := append([]byte("# Example CA\n"), strings.Repeat(string(public), 10)...)
	for name, c := range map[string]struct {
		value []byte
		want  bool
	}{
		"DER": {cert, false}, "PEM": {public, false}, "bundle": {bundle, false},
		"key": {secret, true}, "DER key": {private, true}, "both": {append(public, secret...), true},
	} {
		if got := Likely(c.value); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	line := func(p []byte) string { return strings.Split(string(p), "\n")[1] }
	likely, unlikely := Split(map[string][]byte{"both": append(public, secret...), "region": []byte("us-east-1")})
	for text, want := range map[string][2]bool{
		line(public): {false, true}, line(secret): {true, false}, "in us-east-1a": {false, true}, "nothing": {},
	} {
		if got := [2]bool{likely.Find([]byte(text)) != nil, unlikely.Find([]byte(text)) != nil}; got != want {
			t.Errorf("%s: found %v, want %v", text, got, want)
		}
	}
}
