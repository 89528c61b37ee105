package compare

import (
	"strings"
	"testing"

	"layered.build/builder/snapshot"
)

// TestEntryDifferences names all that counts of an entry, and nothing else.
func TestEntryDifferences(t *testing.T) {
	base := snapshot.Entry{Path: "f", Type: snapshot.TypeFile, Mode: 0o644, Size: 3, Digest: "sha256:1111111111112222"}
	for want, change := range map[string]func(*snapshot.Entry){
		"":                     func(e *snapshot.Entry) { e.ModTime = e.ModTime.AddDate(1, 0, 0) },
		"mode 0644, now 0600":  func(e *snapshot.Entry) { e.Mode = 0o600 },
		"owner 0:0, now 1:2":   func(e *snapshot.Entry) { e.UID, e.GID = 1, 2 },
		"size 3, now 4":        func(e *snapshot.Entry) { e.Size, e.Digest = 4, "sha256:3" },
		"type f, now l":        func(e *snapshot.Entry) { e.Type, e.Linkname = snapshot.TypeSymlink, "x" },
		"hard link to , now g": func(e *snapshot.Entry) { e.Hardlink = "g" },
		"device 0:0, now 1:3":  func(e *snapshot.Entry) { e.DevMajor, e.DevMinor = 1, 3 },
		"content sha256:111111111111, now sha256:333333333333": func(e *snapshot.Entry) { e.Digest = "sha256:3333333333334444" },
		"other extended attributes":                            func(e *snapshot.Entry) { e.Xattrs = map[string]string{"user.a": "b"} },
	} {
		now := base
		change(&now)
		if got := strings.Join(entryDifferences(&base, &now), "; "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
