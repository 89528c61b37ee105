// Package oci keeps shared caches where OCI images are kept: in a repository of a registry,
// or in a folder that is an OCI image layout. A scope is a tag of an image manifest without
// a file system of its own: its first layer is the index, the others are the blobs that the
// index names, so that registries keep them, and tools that copy images copy caches.
package oci
