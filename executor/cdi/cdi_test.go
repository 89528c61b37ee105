package cdi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(first, "a.yaml", `
cdiVersion: "0.6.0"
kind: vendor1.com/device
annotations: {org.mobyproject.buildkit.device.class: class1}
containerEdits:
  env: [ALL=1]
devices:
- name: foo
  containerEdits:
    env: [FOO=injected]
    deviceNodes: [{path: /dev/x, hostPath: /dev/null, permissions: rw}]
- name: bar
`)
	write(first, "ignored.txt", "not a specification")
	write(second, "b.json", `{"cdiVersion":"0.6.0","kind":"vendor1.com/device","devices":[{"name":"bar","containerEdits":{"env":["BAR=later"]}}]}`)
	r, err := Load(first, second, filepath.Join(first, "missing"))
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		"vendor1.com/device=foo": "vendor1.com/device=foo ALL=1 FOO=injected",
		"vendor1.com/device=bar": "vendor1.com/device=bar BAR=later",
		"vendor1.com/device":     "vendor1.com/device=bar BAR=later",
		"vendor1.com/device=*":   "vendor1.com/device=bar BAR=later vendor1.com/device=foo ALL=1 FOO=injected",
		"class1":                 "vendor1.com/device=foo ALL=1 FOO=injected",
		"vendor1.com/device=no":  "",
		"vendor2.com/device":     "",
		"":                       "",
	} {
		var got []string
		for _, d := range r.Find(request) {
			got = append(got, d.Name)
			got = append(got, d.Edits.Env...)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", request, got, want)
		}
	}
	write(second, "c.yaml", "cdiVersion: [")
	if _, err := Load(second); err == nil || !strings.Contains(err.Error(), "c.yaml") {
		t.Errorf("a broken file: %v", err)
	}
}
