package registry

import (
	"time"
)

// Options say how registries are reached. The zero value is what docker does.
type Options struct {
	// ConfigDir is the folder of docker's config.json; "" means $DOCKER_CONFIG,
	// else ~/.docker.
	ConfigDir string
	// Mirrors are lines "REGISTRY=URL" (docker.io=http://127.0.0.1:5000). Mirrors
	// of one registry are tried in order, then those of the environment and the
	// configuration files, then the registry itself.
	Mirrors []string
	// Insecure are registries (host[:port] or CIDR) that may be reached by http
	// or with a certificate that does not verify.
	Insecure []string
	// UserAgent is sent with every request.
	UserAgent string
	// Parallel is how many blobs are transferred at once (0: 4).
	Parallel int
	Retry    Retry
	Timeouts Timeouts
}

// Retry says how often a request that failed for a passing reason (429, 5xx, a
// broken connection) is made again. Zero fields take defaults.
type Retry struct {
	// Attempts counts the first one too (0: 5).
	Attempts int
	// Wait is the pause after the first failure; it doubles up to MaxWait (0:
	// 250 ms and 8 s). Retry-After is honoured up to MaxWait.
	Wait, MaxWait time.Duration
}

// Timeouts bound how long a silent peer is waited for. Zero fields take defaults.
type Timeouts struct {
	// Dial, TLS and Header bound the steps of a request (0: 10 s, 10 s, 60 s).
	Dial, TLS, Header time.Duration
	// Stall is how long a body may stand still (0: 60 s).
	Stall time.Duration
}

// Progress is told about transfers: item is a short name of the blob, current
// and total are bytes (total < 0: not known yet). It is called from several
// goroutines at once.
type Progress func(item string, current, total int64)

// PushOptions say what a pushed image looks like.
type PushOptions struct {
	// DockerTypes makes Docker's media types where the image has no manifest yet.
	DockerTypes bool
	// Insecure treats this registry as an insecure one, for this push.
	Insecure bool
	Progress Progress
}
