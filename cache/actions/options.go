package actions

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
	"time"

	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
	"layered.build/builder/parser/mistake"
)

// Settings are what a user has no option for. The zero value is the usual one.
type Settings struct {
	// Timeouts bound how long a silent service is waited for.
	Timeouts object.Timeouts
	// Retry has the pauses between attempts; how long there are any is an option.
	Retry object.Retry
	// Part is the size of the blocks in which blobs are sent (0: 8 MiB).
	Part int
	// Patience is how long, altogether, is waited for others that write the same (0: 30 s).
	Patience time.Duration
}

// defaultTimeout is long enough for a limit of requests a minute.
const defaultTimeout = 2 * time.Minute

// New makes the place that the options describe; nothing is sent yet. Getenv finds the
// environment's variables. Errors are mistakes of the user's; where the variables that a job
// has are not set, the place is one that nobody can reach.
func New(a *shared.Attrs, getenv func(string) string) (shared.Backend, error) {
	return Settings{}.New(a, getenv)
}

// New is New with settings.
func (s Settings) New(a *shared.Attrs, getenv func(string) string) (shared.Backend, error) {
	o, err := readOptions(a, getenv)
	if err != nil {
		return nil, err
	}
	if o.absent != "" {
		return absent{o.absent}, nil
	}
	s.Retry.Total, s.Retry.Together = o.timeout, true
	s.Retry.MaxWait = cmp.Or(s.Retry.MaxWait, 30*time.Second)
	return newPlace(s, &o), nil
}

// options are the attributes of a cache of this type.
type options struct {
	at      *url.URL // of the service
	token   string
	timeout time.Duration
	absent  string // why there is no service
}

// where is how to have what a job has.
const where = "in a job of GitHub Actions, an action such as crazy-max/ghaction-github-runtime makes it known to run: steps"

func readOptions(a *shared.Attrs, getenv func(string) string) (options, error) {
	o := options{token: cmp.Or(a.Take("token"), getenv("ACTIONS_RUNTIME_TOKEN")), timeout: defaultTimeout}
	for _, name := range []string{"repository", "ghtoken"} {
		if a.Has(name) {
			return o, mistake.Unsupported("type=gha: "+name, "leave it out: entries are not listed through GitHub's API but looked up one by one")
		}
	}
	if t := a.Take("timeout"); t != "" {
		var err error
		if o.timeout, err = time.ParseDuration(t); err != nil || o.timeout <= 0 {
			return o, mistake.New("type=gha: timeout=%s is not a time, such as 5m", t)
		}
	}
	address, err := findService(a, getenv)
	if err != nil {
		return o, err
	}
	switch {
	case address == "":
		o.absent = "$ACTIONS_RESULTS_URL is not set"
	case o.token == "":
		o.absent = "$ACTIONS_RUNTIME_TOKEN is not set"
	default:
		o.at, err = url.Parse(address)
		if err != nil || o.at.Host == "" || o.at.Scheme != "http" && o.at.Scheme != "https" {
			return o, mistake.New("type=gha: the address of the service (url_v2, url, $ACTIONS_RESULTS_URL) is not a URL such as https://results-receiver.actions.githubusercontent.com/")
		}
		o.at.User, o.at.RawQuery, o.at.Fragment = nil, "", ""
		o.at.Path = strings.TrimSuffix(o.at.Path, "/")
	}
	return o, nil
}

// findService returns the address of a service of version 2, "" if there is none. One of
// version 1 is refused.
func findService(a *shared.Attrs, getenv func(string) string) (string, error) {
	version, v2, old := a.Take("version"), a.Take("url_v2"), a.Take("url")
	switch version {
	case "", "2":
	case "1":
		return "", onlyOld("version=1")
	default:
		return "", mistake.New("type=gha: version=%s: want 2", version)
	}
	if v2 != "" {
		return v2, nil
	}
	if old != "" {
		if version == "2" || strings.Contains(old, "results-receiver.actions.githubusercontent.com") {
			return old, nil
		}
		return "", onlyOld("url")
	}
	results := getenv("ACTIONS_RESULTS_URL")
	says := getenv("ACTIONS_CACHE_SERVICE_V2")
	is, err := strconv.ParseBool(says)
	if version == "" && !(err == nil && is) && (says != "" || getenv("ACTIONS_CACHE_URL") != "") {
		return "", onlyOld("the environment")
	}
	return results, nil
}

func onlyOld(what string) error {
	return mistake.New("type=gha: %s means version 1 of the cache service, which is not supported", what).
		WithHint("GitHub has version 2 ($ACTIONS_CACHE_SERVICE_V2=true and $ACTIONS_RESULTS_URL, or version=2,url_v2=URL); where there is none, as on GitHub Enterprise Server, use type=registry or type=s3")
}
