package attrs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "",
		" \n ":                                  "",
		"host/app:cache":                        "host/app:cache",
		"a:1\n b:2 \n":                          "a:1|b:2",
		"type=s3,name=a;b;type=gha":             "type=s3,name=a;b|type=gha",
		"type=gha,scope=x;y ; type=local,src=z": "type=gha,scope=x;y|type=local,src=z",
		"type=registry,ref=a;type":              "type=registry,ref=a;type",
	} {
		if got := strings.Join(Split(text), "|"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestFor(t *testing.T) {
	for text, want := range map[string]string{
		"host/app:cache": "ref=host/app:cache type=registry | ref=host/app:cache type=registry",
		"type=local,src=dir,mode=max,verify-key=v,sign-key=s":           "src=dir type=local verify-key=v | dest=dir mode=max sign-key=s type=local",
		"type=local,dest=out,src=in":                                    "src=in type=local | dest=out type=local",
		"type=gha,scope=pr;main,parents=x,reset=true,ignore-error=true": "ignore-error=true parents=x scope=pr;main type=gha | ignore-error=true reset=true scope=pr type=gha",
		"type=inline,sign-key=s":                                        "none | sign-key=s type=inline",
	} {
		a, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		a.SetOrigin("BUILDER_CACHE")
		var got []string
		for _, to := range []bool{false, true} {
			b := a.For(to)
			if b == nil {
				got = append(got, "none")
				continue
			}
			var kv []string
			for _, k := range slices.Sorted(maps.Keys(b.values)) {
				kv = append(kv, fmt.Sprintf("%s=%s", k, b.values[k]))
			}
			got = append(got, strings.Join(kv, " "))
			if b.Origin("--cache-from") != "BUILDER_CACHE" {
				t.Errorf("%s: origin %q", text, b.Origin(""))
			}
		}
		if s := strings.Join(got, " | "); s != want {
			t.Errorf("%s: %s, want %s", text, s, want)
		}
	}
}
