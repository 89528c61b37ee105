package subrequest

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"layered.build/builder/parser"
	"layered.build/builder/planner"
)

const dockerfile = "# base is what all stand on\nFROM scratch AS base\nFROM base\n"

func parse(t *testing.T) *parser.File {
	t.Helper()
	file, err := parser.Parse("Dockerfile", []byte(dockerfile))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func encode(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteJSON(&b, v); err != nil {
		t.Fatal(err)
	}
	var c bytes.Buffer
	if err := json.Compact(&c, b.Bytes()); err != nil {
		t.Fatal(err)
	}
	return c.String()
}

func TestTargets(t *testing.T) {
	file := parse(t)
	want := `{"targets":[{"name":"base","description":"is what all stand on","base":"scratch","location":{"ranges":[{"start":{"line":2},"end":{"line":2}}]}},` +
		`{"default":true,"base":"base","location":{"ranges":[{"start":{"line":3},"end":{"line":3}}]}}],"sources":["IyBiYXNlIGlzIHdoYXQgYWxsIHN0YW5kIG9uCkZST00gc2NyYXRjaCBBUyBiYXNlCkZST00gYmFzZQo="]}`
	if got := encode(t, NewTargets(file)); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	var b bytes.Buffer
	if err := PrintTargets(&b, file); err != nil {
		t.Fatal(err)
	}
	if want := "TARGET    DESCRIPTION\nbase      is what all stand on\n(default) \n"; b.String() != want {
		t.Errorf("got\n%s, want\n%s", b.String(), want)
	}
}

func TestLint(t *testing.T) {
	found := []parser.Warning{{Rule: "R", Description: "d", URL: "u", Message: "m <&>", Start: 2, End: 3}}
	err := &parser.Error{File: "Dockerfile", Start: 1, End: 1, Msg: "no", Err: errors.New("no")}
	want := `{"warnings":[{"ruleName":"R","description":"d","url":"u","detail":"m <&>","location":{"ranges":[{"start":{"line":2},"end":{"line":2}},{"start":{"line":3},"end":{"line":3}}]}}],` +
		`"sources":[{"filename":"Dockerfile","language":"Dockerfile","data":"eA=="}],"buildError":{"message":"` + err.Error() + `","location":{"ranges":[{"start":{"line":1},"end":{"line":1}}]}}}`
	if got := encode(t, NewLint(found, "Dockerfile", []byte("x"), err)); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	if got, want := encode(t, NewLint(nil, "", nil, nil)), `{"warnings":[],"sources":[{"filename":"","language":"Dockerfile","data":null}]}`; got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestOutline(t *testing.T) {
	o := &planner.Outline{Name: "t", Args: []planner.OutlineArg{{Name: "A", Value: "1"}}, Secrets: []planner.OutlineMount{{ID: "s", Required: true}}}
	want := `{"name":"t","args":[{"name":"A","value":"1"}],"secrets":[{"name":"s","required":true}],"sources":["` + "IyBiYXNlIGlzIHdoYXQgYWxsIHN0YW5kIG9uCkZST00gc2NyYXRjaCBBUyBiYXNlCkZST00gYmFzZQo=" + `"]}`
	if got := encode(t, NewOutline(parse(t), o)); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	var b bytes.Buffer
	if err := PrintOutline(&b, o); err != nil {
		t.Fatal(err)
	}
	if want := "TARGET: t\n\nBUILD ARG   VALUE   DESCRIPTION\nA           1       \n\nSECRET   REQUIRED\ns        true\n\n"; b.String() != want {
		t.Errorf("got\n%q, want\n%q", b.String(), want)
	}
}
