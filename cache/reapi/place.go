package reapi

import (
	"cmp"
	"encoding/base64"
	"time"

	"layered.build/builder/cache/shared"
	"layered.build/builder/registry/grpc"
)

// Settings are what a user has no option for. The zero value is the usual one.
type Settings struct {
	// Patience is how long a server may be silent (0: 1 min).
	Patience time.Duration
	// Pause is how long is waited before something is tried again, at first; it doubles
	// (0: 200 ms).
	Pause time.Duration
}

// Place is an instance of a server. It is safe for concurrent use.
type Place struct {
	name     string
	instance string
	secrets  secrets
	conn     *grpc.Conn
	pause    time.Duration
	known    knowledge
}

var (
	_ shared.Backend = (*Place)(nil)
	_ shared.Loose   = (*Place)(nil)
)

// New makes the place that the options describe: endpoint (grpc://HOST:PORT or grpcs://…),
// instance, header (KEY=VALUE;…; otherwise $BUILDER_REAPI_HEADERS), ca, cert and key (files)
// and insecure (the server's certificate is not verified). It connects with the first call;
// errors are mistakes of the user's. The caller closes the place.
func New(a *shared.Attrs, getenv func(string) string) (*Place, error) {
	return Settings{}.New(a, getenv)
}

// New is New with settings.
func (s Settings) New(a *shared.Attrs, getenv func(string) string) (*Place, error) {
	o, err := takeOptions(a, getenv)
	if err != nil {
		return nil, err
	}
	// RequestMetadata with ToolDetails: who it is, in the server's log.
	about := grpc.Message(nil).Sub(1, grpc.Message(nil).Text(1, "builder"))
	o.header["build.bazel.remote.execution.v2.requestmetadata-bin"] = base64.RawStdEncoding.EncodeToString(about)
	p := &Place{
		name: o.String(), instance: o.instance, secrets: o.secrets,
		pause: cmp.Or(s.Pause, 200*time.Millisecond), known: knowledge{asking: make(chan struct{}, 1)},
	}
	p.conn = grpc.New(o.host, grpc.Options{TLS: o.tls, Header: o.header, Patience: cmp.Or(s.Patience, time.Minute)})
	return p, nil
}

// String implements shared.Backend.
func (p *Place) String() string { return p.name }

// Loose implements shared.Loose: results of actions are overwritten, whatever they are.
func (p *Place) Loose() bool { return true }

// Close ends the connections, as soon as no call uses them.
func (p *Place) Close() error {
	p.conn.Close()
	return nil
}
