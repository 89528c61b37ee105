// Package tree writes file systems as they are, without an image around them: into a
// directory, and as a tar.
package tree

import (
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/snapshot"
)

// Tree is the file system for one platform.
type Tree struct {
	Platform ocispec.Platform
	snapshot.Tree
}

// Set is what is written: one file system or several, and how they lie beside each other.
type Set struct {
	Trees []Tree
	// Split gives each a folder of its own; otherwise they are laid over each other, and
	// must not have the same files.
	Split bool
	// Epoch is the time of all files, nil for their own.
	Epoch *time.Time
}

// Folder is the name of a platform's folder: linux_arm_v7.
func Folder(p ocispec.Platform) string { return strings.ReplaceAll(platforms.FormatAll(p), "/", "_") }

// check refuses platforms that would overwrite each other's files.
func (s Set) check() error {
	if s.Split {
		return nil
	}
	for i, t := range s.Trees {
		err := snapshot.Walk(t, ".", func(e *snapshot.Entry) error {
			k := slices.IndexFunc(s.Trees[:i], func(other Tree) bool {
				have, err := other.Lstat(e.Path)
				return err == nil && (have.Type != snapshot.TypeDir || e.Type != snapshot.TypeDir)
			})
			if k >= 0 {
				return mistake.New("platform-split=false: both %s and %s have %s", platforms.FormatAll(s.Trees[k].Platform), platforms.FormatAll(t.Platform), e.Path)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
