// Package registry resolves, pulls, pushes and copies images. The client keeps what it
// fetches and makes in a store of layers (package snapshot) and of images (package
// imagestore), and does every piece of work once, whoever asks for it. What it is made of
// is in packages below; nothing else talks HTTP to registries. Package export writes what
// a build is to leave, containerd and export/engines give images to other engines.
//
// The nouns that callers need have their names here, too (names.go).
package registry
