// Package sign makes and verifies the ed25519 signatures (RFC 8032) of what is in shared
// caches. Keys are files, variables, or programs that ask a service that keeps the key.
package sign
