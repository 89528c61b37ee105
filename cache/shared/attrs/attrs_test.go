package attrs

import (
	"errors"
	"strings"
	"testing"

	"layered.build/builder/parser/mistake"
)

// Values may be credentials, also pieces of them between commas: errors do not repeat them.
func TestMistakesTellNoValues(t *testing.T) {
	for text, want := range map[string]string{
		"type=s3,secret_access_key=secret,bucket":            "option 3 of 3 is not KEY=VALUE",
		"type=reapi,header=authorization=Bearer secret,cret": "option 3 of 3 is not KEY=VALUE",
		`type=s3,secret_access_key="secret",bucket=b`:        "not options",
		`type=s3,"secret_access_key=secret`:                  "not options",
		"bucket=b,secret_access_key=secret":                  "type is missing",
	} {
		_, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRepeated(t *testing.T) {
	a, err := Parse("type=reapi,header=a=1,endpoint=x,endpoint=y,header=b=2;c=3")
	if err != nil || a.Take("header") != "a=1;b=2;c=3" || a.Take("endpoint") != "y" {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestMistyped tells which option was meant.
func TestMistyped(t *testing.T) {
	for text, want := range map[string]string{
		"type=registry,reff=x":       "reff is no option: did you mean ref?",
		"type=registry,ref=x,mod=y":  "did you mean mode?",
		"type=registry,ref=x,zzzz=y": "docs/COMPATIBILITY.md lists the options of --cache-from and --cache-to",
	} {
		a, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		a.Kind()
		a.Take("mode")
		if _, err = a.Need("ref"); err == nil {
			err = a.Left()
		}
		var m *mistake.Error
		if !errors.As(err, &m) || m.Hint != want {
			t.Errorf("%s: %v, hint %q", text, err, m.Hint)
		}
	}
}
