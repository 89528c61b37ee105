package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DockerFolder is where docker keeps its configuration: $DOCKER_CONFIG, else ~/.docker; ""
// if there is no such place.
func DockerFolder() string { return below("DOCKER_CONFIG", ".docker") }

// UserFolder is where the user's configuration is: $XDG_CONFIG_HOME, else ~/.config; "" if
// there is no such place.
func UserFolder() string { return below("XDG_CONFIG_HOME", ".config") }

// RunFolder is $XDG_RUNTIME_DIR, "" if there is none.
func RunFolder() string { return below("XDG_RUNTIME_DIR", "") }

// below is the folder of a variable, else one in the user's home. A variable that names no
// folder that can be used counts as one with an empty folder.
func below(variable, inHome string) string {
	if dir := os.Getenv(variable); dir != "" {
		if unusable(dir) != nil {
			return ""
		}
		return dir
	}
	home := os.Getenv("HOME")
	if inHome == "" || home == "" || unusable(home) != nil {
		return ""
	}
	return filepath.Join(home, inHome)
}

// FolderProblems says which variables name no folder that can be used: they count as if
// the folder were empty.
func FolderProblems() []string {
	variables := []string{"DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"}
	if os.Getenv("DOCKER_CONFIG") == "" || os.Getenv("XDG_CONFIG_HOME") == "" {
		variables = append([]string{"HOME"}, variables...)
	}
	var problems []string
	for _, v := range variables {
		if dir := os.Getenv(v); dir != "" {
			if err := unusable(dir); err != nil {
				problems = append(problems, fmt.Sprintf("%s=%s: %v: taken as empty", v, dir, err))
			}
		}
	}
	return problems
}

// unusable says why a folder cannot be used. One that does not exist can be: it is empty.
func unusable(dir string) error {
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return reason(err)
	case !fi.IsDir():
		return unix.ENOTDIR
	}
	return unix.Access(dir, unix.X_OK)
}

// reason is an error without the path, which is told already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// unreachable says that a file counts as empty.
func unreachable(path string, err error) string {
	return fmt.Sprintf("%s: %v: taken as empty", path, reason(err))
}
