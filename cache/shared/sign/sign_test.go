package sign

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

// What signs is verified with the public key of the same pair alone, whichever way the keys
// are given.
func TestSign(t *testing.T) {
	private, public, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	getenv := env(map[string]string{"PRIVATE": string(private), "PUBLIC": string(public), "OTHER": string(other)})
	key, err := readPrivate("env:PRIVATE", getenv)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	raw := ed25519.Sign(key, message)
	for _, name := range []string{
		"env:PRIVATE", write(t, "key", private),
		"cmd:cat >/dev/null; cat " + write(t, "raw", raw),
		"cmd:test \"$(cat)\" = message && cat " + write(t, "base64", []byte(base64.StdEncoding.EncodeToString(raw)+"\n")),
		"cmd:cat " + write(t, "hex", []byte(hex.EncodeToString(raw)+"\n")),
	} {
		s, err := NewSigner(name, getenv)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sig, err := s.Sign(t.Context(), message)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for keys, want := range map[string]bool{"env:PUBLIC": true, "env:OTHER": false, "env:OTHER;env:PUBLIC": true} {
			k, err := ReadKeys(strings.Split(keys, ";"), getenv)
			if err != nil {
				t.Fatal(err)
			}
			if got := k.Verify(message, sig); got != want {
				t.Errorf("%s, %s: verified: %v", name, keys, got)
			}
			if k.Verify([]byte("other message"), sig) {
				t.Errorf("%s, %s: another message is verified", name, keys)
			}
			if public := s.Public(); public != nil && k.Has(Name(public)) != want {
				t.Errorf("%s: %s is named: %v", keys, Name(public), !want)
			}
		}
	}
}

// Keys and a signature that openssl made (genpkey, pkey -pubout, pkeyutl -sign -rawin).
const (
	opensslPrivate = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIDeaUkndK3PkGzNOm/6axNLp1P9a2zGfMoF1v3Z/osYp
-----END PRIVATE KEY-----
`
	opensslPublic = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA+91Sn/pDjxyZEewCbbSnJsgTAeW21FMjwQRbmXJcGSs=
-----END PUBLIC KEY-----
`
	opensslSignature = "PHCRZTUk0HxbTVObXCioJN9FaDSJoW5qpRkeThK3uHIzhxsPSysQpMpWGw4iCfLu7/VJOezF4rxE4shm1eFEAQ=="
)

func TestOpenSSL(t *testing.T) {
	s, err := NewSigner(write(t, "key", []byte(opensslPrivate)), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys([]string{write(t, "key.pub", []byte(opensslPublic))}, env(nil))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.Sign(t.Context(), []byte("message"))
	if err != nil || base64.StdEncoding.EncodeToString(sig) != opensslSignature || !keys.Verify([]byte("message"), sig) {
		t.Errorf("the signature is %x: %v", sig, err)
	}
}

// What is no key is said, and nothing of a private key is.
func TestMistakes(t *testing.T) {
	private, public, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	getenv := env(map[string]string{"PRIVATE": string(private), "PUBLIC": string(public), "OTHER": "-----BEGIN PRIVATE KEY-----\nc2VjcmV0IGJ5dGVz\n-----END PRIVATE KEY-----\n", "TEXT": "secret text"})
	for name, want := range map[string]string{
		"/nosuch/key": "no such file", "env:NONE": "$NONE is empty", "env:TEXT": "not PEM", "env:OTHER": "no private key of ed25519",
		"env:PUBLIC": "it is a public key", "cmd: ": "command is missing",
	} {
		_, err := NewSigner(name, getenv)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("sign-key=%s: %v", name, err)
		}
	}
	for name, want := range map[string]string{"/nosuch/key": "no such file", "env:PRIVATE": "is a private key", "cmd:true": "cannot verify", "env:TEXT": "not PEM"} {
		_, err := ReadKeys([]string{name}, getenv)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("verify-key=%s: %v", name, err)
		}
	}
	for command, want := range map[string]string{"echo denied >&2; exit 3": "denied", "echo nothing": "printed no signature", "cat": "printed no signature"} {
		s, err := NewSigner("cmd:"+command, getenv)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sign(t.Context(), []byte("message")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", command, err)
		}
	}
}
