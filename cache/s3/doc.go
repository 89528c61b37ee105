// Package s3 keeps a shared cache in a bucket of S3 or of what speaks like it: type=s3 of
// --cache-from and --cache-to. Options and names of objects are those of BuildKit's cache of
// that type, credentials are found where the AWS tools find them.
//
// The client is our own: ten requests, signed with version 4 of AWS's signatures (ADR 22).
package s3
