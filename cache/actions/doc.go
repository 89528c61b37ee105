// Package actions keeps a shared cache in the cache of GitHub Actions: type=gha of
// --cache-from and --cache-to.
//
// The service (its version 2) is asked by Twirp, with JSON, for entries, which are blobs of
// Azure's that are read and written by signed URLs. An entry never changes: what has to
// change, and what may be damaged, is written again under its name with the next number, and
// the newest is found by the name (ADR 25).
package actions
