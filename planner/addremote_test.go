package planner

import (
	"fmt"
	"strings"
	"testing"

	"layered.build/builder/planner/dag"
)

// TestAddPassword: a password in a URL is given to the server and shown nowhere.
func TestAddPassword(t *testing.T) {
	p, err := plan(t, "FROM scratch\nARG P=secret\nADD https://me:secret@example.org/x.git https://me:$P@example.org/y /\nRUN x\n", Options{})
	if err != nil {
		t.Fatal(err)
	}
	given := 0
	for _, s := range p.Graph.Steps {
		if strings.Contains(s.Meta.Name+s.Meta.Command+strings.Join(s.Meta.InputNames, " "), "secret") {
			t.Errorf("shown: %+v", s.Meta)
		}
		if src, ok := s.Op.(*dag.Source); ok && strings.Contains(fmt.Sprintf("%v %v", src.HTTP, src.Git), "secret") {
			given++
		}
	}
	if given != 2 {
		t.Errorf("given to %d servers", given)
	}
	if text := p.Graph.String(); strings.Contains(text, ":secret@") {
		t.Errorf("shown:\n%s", text)
	}
	for _, h := range p.Targets[0].Instructions {
		if strings.HasPrefix(h.CreatedBy, "ADD") && h.CreatedBy != "ADD https://xxxxx:xxxxx@example.org/x.git https://xxxxx:xxxxx@example.org/y / # buildkit" {
			t.Errorf("history: %s", h.CreatedBy)
		}
	}
}

// TestNamedContexts: which context takes the place of what.
func TestNamedContexts(t *testing.T) {
	local := func(name string) *NamedContext {
		return &NamedContext{Source: &dag.Source{Local: &dag.LocalSource{Name: name}}}
	}
	contexts := map[string]*NamedContext{}
	for name, nc := range map[string]*NamedContext{
		"docker.io/library/Alpine:latest": {Image: "busybox"},
		"busybox::linux/arm64/v8":         {Image: "debian"},
		"BUILD":                           local("dir"),
		"unused":                          {Image: "nosuch/image"},
	} {
		key, err := NamedContextKey(name)
		if err != nil {
			t.Fatal(err)
		}
		contexts[key] = nc
	}
	p, err := plan(t, `FROM golang AS build
RUN never
FROM --platform=linux/arm64 busybox AS arm
FROM alpine AS base
FROM base
COPY --from=Build a /a
COPY --from=arm b /b
RUN --mount=from=build,target=/m x
`, Options{Contexts: contexts})
	if err != nil {
		t.Fatal(err)
	}
	text := p.Graph.String()
	for _, want := range []string{"docker.io/library/busybox:latest", "docker.io/library/debian:latest", "local    dir"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	for _, bad := range []string{"golang", "alpine:", "never", "nosuch"} {
		if strings.Contains(text, bad) {
			t.Errorf("%s in\n%s", bad, text)
		}
	}
	if _, err := NamedContextKey("a::b/c/d/e/f"); err == nil {
		t.Error("a platform that is none was taken")
	}
}
