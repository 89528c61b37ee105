// Package overlay mounts overlay file systems with the new mount API.
package overlay
