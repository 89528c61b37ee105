// Package registry resolves, pulls and pushes images, assembles configuration,
// history and manifests, and keeps the names of local images. Nothing else talks
// HTTP to registries. Package export below it writes OCI layouts and docker
// archives.
package registry
