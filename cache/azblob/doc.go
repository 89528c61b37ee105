// Package azblob keeps a shared cache in a container of Azure's blob storage: type=azblob of
// --cache-from and --cache-to. Options and names of blobs are those of BuildKit's cache of
// that type.
//
// The client is our own: six requests (ADR 22).
package azblob
