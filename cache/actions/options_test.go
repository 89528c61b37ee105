package actions

import (
	"strings"
	"testing"
	"time"

	"layered.build/builder/cache/shared"
)

func TestOptions(t *testing.T) {
	const results = "https://results-receiver.actions.githubusercontent.com/"
	job := map[string]string{"ACTIONS_RESULTS_URL": results, "ACTIONS_RUNTIME_TOKEN": "tok-of-the-job", "ACTIONS_CACHE_SERVICE_V2": "true", "ACTIONS_CACHE_URL": "https://old.test/"}
	old := map[string]string{"ACTIONS_CACHE_URL": "https://old.test/", "ACTIONS_RUNTIME_TOKEN": "tok-of-the-job"}
	for _, c := range []struct {
		attrs string
		env   map[string]string
		at    string
		token string
	}{
		{"", job, strings.TrimSuffix(results, "/"), "tok-of-the-job"},
		{",url_v2=http://h.test:8080/a/,token=given", job, "http://h.test:8080/a", "given"},
		{",url_v2=https://u:p@h.test?x=y", job, "https://h.test", "tok-of-the-job"},
		{",version=2,url=https://h.test", old, "https://h.test", "tok-of-the-job"},
		{",url=" + results, old, strings.TrimSuffix(results, "/"), "tok-of-the-job"},
		{",version=2", map[string]string{"ACTIONS_RESULTS_URL": results, "ACTIONS_CACHE_URL": "https://old.test/", "ACTIONS_RUNTIME_TOKEN": "t"}, strings.TrimSuffix(results, "/"), "t"},
		{"", map[string]string{"ACTIONS_RESULTS_URL": "https://h.test", "ACTIONS_RUNTIME_TOKEN": "t"}, "https://h.test", "t"},
	} {
		a, err := shared.ParseAttrs("type=gha" + c.attrs)
		if err != nil {
			t.Fatal(err)
		}
		a.Kind()
		o, err := readOptions(a, func(k string) string { return c.env[k] })
		if err != nil || a.Left() != nil || o.absent != "" {
			t.Errorf("%s: %v, %v, %s", c.attrs, err, a.Left(), o.absent)
			continue
		}
		if o.at.String() != c.at || o.token != c.token || o.timeout != 2*time.Minute {
			t.Errorf("%s: got %+v", c.attrs, o)
		}
	}
}

func TestMistakes(t *testing.T) {
	const job = "https://h.test"
	for _, c := range []struct {
		attrs string
		env   map[string]string
		want  string
	}{
		{",version=1", nil, "version=1 means version 1 of the cache service, which is not supported"},
		{",version=3", nil, "want 2"},
		{",url=https://h.test", nil, "url means version 1"},
		{"", map[string]string{"ACTIONS_CACHE_URL": job, "ACTIONS_RESULTS_URL": job}, "the environment means version 1"},
		{"", map[string]string{"ACTIONS_CACHE_SERVICE_V2": "False", "ACTIONS_RESULTS_URL": job}, "the environment means version 1"},
		{",ghtoken=ghs_secret", nil, "ghtoken is not supported"},
		{",repository=a/b", nil, "repository is not supported"},
		{",timeout=soon", nil, "timeout=soon is not a time"},
		{",url_v2=h.test,token=t", nil, "is not a URL"},
	} {
		a, err := shared.ParseAttrs("type=gha" + c.attrs)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(a, func(k string) string { return c.env[k] })
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "ghs_secret") {
			t.Errorf("%s: got %v, want %q", c.attrs, err, c.want)
		}
	}
}

// Outside of a job the place is one that nobody can reach: it says why, and is no mistake.
func TestOutside(t *testing.T) {
	for want, env := range map[string]map[string]string{
		"$ACTIONS_RESULTS_URL is not set":   {},
		"$ACTIONS_RUNTIME_TOKEN is not set": {"ACTIONS_RESULTS_URL": "https://h.test"},
	} {
		a, err := shared.ParseAttrs("type=gha")
		if err != nil {
			t.Fatal(err)
		}
		p, err := New(a, func(k string) string { return env[k] })
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = p.Index(t.Context(), "")
		_, missing := p.Missing(t.Context(), nil)
		_, opened := p.Open(t.Context(), shared.Blob{}, 0)
		for _, err := range []error{err, missing, opened, p.Store(t.Context(), shared.Blob{}, nil), p.Replace(t.Context(), "", nil, nil, "")} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	}
}
