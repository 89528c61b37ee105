// Package mounts turns the content of a cache mount (RUN --mount=type=cache) into blobs and
// back. The bytes of all its files, in the order of their paths, are one stream, which is cut
// where its content says so (FastCDC): what was added, changed or removed changes the chunks
// around it and no others. Chunks are compressed each by itself and lie in packs; a manifest
// lists the files and the chunks of the stream. The form is described in docs/FORMAT.md.
//
// What is read may have been written by anybody: all that is stated is bounded, chunks are
// verified, and no name or link leads out of the folder that is made.
package mounts
