package planner

import (
	"fmt"
	"strings"
	"testing"

	"layered.build/builder/parser"
)

// TestOutline describes the Dockerfile of BuildKit's own test of outlines.
func TestOutline(t *testing.T) {
	src := `
ARG inherited=box
ARG inherited2=box2
ARG unused=abc${inherited2}
# sfx is a suffix
ARG sfx="usy${inherited}"

FROM b${sfx} AS first
# this is not assigned to anything
ARG FOO=123
# BAR is a number
ARG BAR=456
RUN --mount=type=secret,id=a --mount=type=ssh,required true

FROM alpine${unused} AS second
ARG BAZ
RUN true

FROM scratch AS third
ARG ABC=a
# check=skip=all
ARG password
# alternate_password will show up in the outline
# check=skip=all
ARG alternate_password

# target defines build target
FROM third AS target
COPY --from=first /etc/passwd /
RUN --mount=type=secret,id=a,required --mount=type=secret,id=b,env=B --mount=type=cache,target=/c true

FROM second
`
	p, err := plan(t, src, Options{Target: "target", BuildArgs: map[string]string{"BAR": "678"}})
	if err != nil {
		t.Fatal(err)
	}
	o := p.Outline
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", o.Name, o.Description)
	for _, a := range o.Args {
		fmt.Fprintf(&b, "%d %s=%s %s\n", a.Location.Start, a.Name, a.Value, a.Description)
	}
	fmt.Fprintf(&b, "%v %v %v\n", o.Secrets, o.SSH, o.Caches)
	want := `target: defines build target
2 inherited=box 
6 sfx=usybox is a suffix
10 FOO=123 
12 BAR=678 is a number
20 ABC=a 
22 password= 
25 alternate_password= will show up in the outline
[{a true {Dockerfile 30 30}} {b false {Dockerfile 30 30}}] [{default true {Dockerfile 13 13}}] [{/c false {Dockerfile 30 30}}]
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// TestOutlineOfRepeatedArg: each keeps the earlier value while it is expanded.
func TestOutlineOfRepeatedArg(t *testing.T) {
	src := "ARG PREFIX=a\nARG FOO=1\nARG FOO=${PREFIX}${FOO}\nARG FOO=${FOO}c\nFROM alpine\nARG FOO\nRUN true"
	p, err := plan(t, src, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(p.Outline.Args)
	if want := "[{PREFIX  a {Dockerfile 1 1}} {FOO  a1c {Dockerfile 4 4}}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTargets(t *testing.T) {
	file, err := parser.Parse("Dockerfile", []byte("# build makes it\nFROM alpine AS build\nFROM --platform=$BUILDPLATFORM build\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(Targets(file))
	want := "[{build makes it false alpine  {Dockerfile 2 2}} {  true build $BUILDPLATFORM {Dockerfile 3 3}}]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
