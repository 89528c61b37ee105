package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// duEquals fails unless the total of `builder du --format json` is within 2 % of
// what du(1) says of the store.
func duEquals() error {
	root := os.Getenv("BUILDER_ROOT")
	out, err := exec.Command("builder", "du", "--format", "json").Output()
	if err != nil {
		return fmt.Errorf("builder du: %w", err)
	}
	var ours int64
	for line := range bytes.Lines(out) {
		_, rest, _ := bytes.Cut(line, []byte(`"Size":`))
		n, _, _ := bytes.Cut(rest, []byte(","))
		size, err := strconv.ParseInt(string(n), 10, 64)
		if err != nil {
			return err
		}
		ours += size
	}
	out, err = exec.Command("du", "-s", "-B1", root).Output()
	if err != nil {
		return fmt.Errorf("du: %w", err)
	}
	theirs, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		return err
	}
	if diff := ours - theirs; diff > theirs/50 || diff < -theirs/50 {
		return fmt.Errorf("builder du says %d bytes, du %d", ours, theirs)
	}
	return nil
}

// damage changes one layer's file, one blob and one record of the store.
func damage() error {
	root := os.Getenv("BUILDER_ROOT")
	for _, pattern := range []string{"layers/*/dir/kept", "blobs/sha256/*", "cache/??/*.json"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("nothing to damage: %s: %w", pattern, fs.ErrNotExist)
		}
		data, err := os.ReadFile(found[0])
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(found[0], data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// program makes a command of the scripts of a function.
func program(fn func() error) func() {
	return func() {
		if err := fn(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
