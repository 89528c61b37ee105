package flags

import (
	"path"
	"strings"
	"testing"

	"layered.build/builder/cmd/build/inputs"
	"layered.build/builder/executor/sshagent"
)

// FuzzFlagValues gives any text to the flags that have a syntax of their own: a
// value that makes sense, or an error.
func FuzzFlagValues(f *testing.F) {
	for _, s := range []string{
		"/tmp:/x:ro,O", "/dev/null:/dev/x:rw", "id=a,src=b", "id=a,cmd=echo", "default=/a,raw=true", "check,format=json", "a=b\n", "::", ",",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := parseRunVolume(s); err == nil && (!path.IsAbs(v.Source) || !path.IsAbs(v.Dest) || v.Dest == "/") {
			t.Errorf("volume %q: %+v", s, v)
		}
		if d, err := parseDevice(s); err == nil && (!strings.HasPrefix(d.Dest, "/dev/") || strings.Trim(d.Access, "rwm") != "" || d.Access == "") {
			t.Errorf("device %q: %+v", s, d)
		}
		if id, _, err := sshagent.Parse(s); err == nil && id == "" {
			t.Errorf("ssh %q: no id", s)
		}
		if fields, err := parseCSV(s); err == nil {
			if id, src, err := parseSecret(fields); err == nil && (id == "" || src == inputs.SecretSource{}) {
				t.Errorf("secret %q: %q %+v", s, id, src)
			}
		}
		if c, err := (&langFlags{call: s}).parseCall(); err == nil && c.What == "" {
			t.Errorf("call %q: %+v", s, c)
		}
	})
}
