package inputs

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxCandidates bounds how many files a hint names.
const maxCandidates = 5

// otherDockerfiles says which files of folders may be the Dockerfile that there is not
// under a name, "" if none may. They are named as -f takes them.
func otherDockerfiles(dirs ...string) string {
	var found []string
	for _, dir := range dirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			continue
		}
		for _, name := range dockerfilesOf(os.DirFS(abs)) {
			if p := shortPath(filepath.Join(abs, name)); !slices.Contains(found, p) {
				found = append(found, p)
			}
		}
	}
	return nameCandidates(found)
}

// nameCandidates is the hint.
func nameCandidates(found []string) string {
	switch n := len(found); {
	case n == 0:
		return ""
	case n == 1:
		return "did you mean -f " + found[0] + "?"
	case n > maxCandidates:
		found = append(found[:maxCandidates:maxCandidates], "…")
	}
	return "there is " + strings.Join(found, ", ") + ": name one with -f"
}

// dockerfilesOf are the files of a folder that are called as Dockerfiles are.
func dockerfilesOf(dir fs.FS) []string {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		low := strings.ToLower(e.Name())
		named := strings.HasPrefix(low, "dockerfile") || strings.HasPrefix(low, "containerfile") ||
			strings.HasSuffix(low, ".dockerfile") || strings.HasSuffix(low, ".containerfile")
		if named && !e.IsDir() && !strings.HasSuffix(low, ".dockerignore") && !strings.HasSuffix(low, ".containerignore") {
			out = append(out, e.Name())
		}
	}
	return out
}

// shortPath is relative to the working directory for what is in it.
func shortPath(abs string) string {
	cwd, err := os.Getwd()
	if err != nil {
		return abs
	}
	if cwd, err = filepath.EvalSymlinks(cwd); err != nil {
		return abs
	}
	if rel, err := filepath.Rel(cwd, abs); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return abs
}
