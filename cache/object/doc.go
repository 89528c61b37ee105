// Package object keeps a shared cache (package cache/shared) in a store of objects: names
// with bytes, as S3 and Azure have them. A Place does what all of them have in common: how
// objects are named, blobs in parts with little memory, indexes that are replaced only if
// nobody else did. What a service is asked is behind the interface Bucket.
//
// A Client makes the requests: signed anew each time, repeated when it is the service's
// fault, never waiting for long, and with errors that hold no credentials.
package object
