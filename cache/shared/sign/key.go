package sign

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"layered.build/builder/parser/mistake"
)

const (
	privateType = "PRIVATE KEY" // PKCS #8
	publicType  = "PUBLIC KEY"  // SPKI
)

// Keys are public keys.
type Keys []ed25519.PublicKey

// Verify reports whether a message was signed with one of the keys.
func (k Keys) Verify(message, signature []byte) bool {
	for _, key := range k {
		if ed25519.Verify(key, message, signature) {
			return true
		}
	}
	return false
}

// Has reports whether one of the keys has a name.
func (k Keys) Has(name string) bool {
	for _, key := range k {
		if Name(key) == name {
			return true
		}
	}
	return false
}

// Name is what a key is called for people: the first 8 bytes of the sha256 of its bytes, in
// hexadecimal; "" of no key.
func Name(key ed25519.PublicKey) string {
	if len(key) == 0 {
		return ""
	}
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// ReadKeys reads public keys (PEM, "PUBLIC KEY"). Each is named by a path, or as env:NAME.
// Errors are mistakes.
func ReadKeys(names []string, getenv func(string) string) (Keys, error) {
	var keys Keys
	for _, name := range names {
		if strings.HasPrefix(name, commandPrefix) {
			return nil, mistake.New("verify-key=cmd:…: a program cannot verify").
				WithHint("give the public key, as a file or env:NAME")
		}
		block, err := readPEM(name, getenv)
		if err != nil {
			return nil, mistake.New("verify-key=%s: %w", name, err)
		}
		if block.Type == privateType {
			return nil, mistake.New("verify-key=%s is a private key", name).
				WithHint("give the public one: `openssl pkey -in KEY -pubout` writes it")
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		public, ok := key.(ed25519.PublicKey)
		if err != nil || !ok {
			return nil, mistake.New("verify-key=%s is no public key of ed25519", name)
		}
		keys = append(keys, public)
	}
	return keys, nil
}

// readPrivate reads a private key (PEM, PKCS #8). Errors hold nothing of it.
func readPrivate(name string, getenv func(string) string) (ed25519.PrivateKey, error) {
	block, err := readPEM(name, getenv)
	if err != nil {
		return nil, err
	}
	if block.Type == publicType {
		return nil, errors.New("it is a public key: the private one signs")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := key.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("it is no private key of ed25519 without a password (`openssl genpkey -algorithm ed25519` and `builder cache keygen` make one)")
	}
	return private, nil
}

func readPEM(name string, getenv func(string) string) (*pem.Block, error) {
	var data []byte
	if variable, ok := strings.CutPrefix(name, "env:"); ok {
		data = []byte(getenv(variable))
		if len(data) == 0 {
			return nil, fmt.Errorf("$%s is empty", variable)
		}
	} else {
		var err error
		if data, err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it is not PEM (-----BEGIN …)")
	}
	return block, nil
}

// Generate makes a pair of keys in PEM.
func Generate() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	rawPrivate, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	rawPublic, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateType, Bytes: rawPrivate}),
		pem.EncodeToMemory(&pem.Block{Type: publicType, Bytes: rawPublic}), nil
}
