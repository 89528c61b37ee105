package shared

// Signature says who vouches for a record.
type Signature struct {
	// Key names the public key: the first 16 digits of its sha256.
	Key string
	// Value is the ed25519 signature (RFC 8032) of what signed returns.
	Value []byte
}
