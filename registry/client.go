package registry

import (
	"cmp"
	"path/filepath"

	"golang.org/x/sync/semaphore"

	"layered.build/builder/registry/config"
	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/routing"
	"layered.build/builder/registry/transport"
	"layered.build/builder/snapshot"
)

// Client talks to registries. It is safe for concurrent use.
type Client struct {
	store  *snapshot.Store
	images *Images
	opts   Options
	routes *routing.Table
	pool   *transport.Pool
	// transfers bounds the blobs that are moved at once.
	transfers *semaphore.Weighted
	// questions bounds what is asked about blobs at once.
	questions *semaphore.Weighted
	// compressions bounds the layers that are compressed at once, which costs
	// memory; each keeps several cores busy.
	compressions *semaphore.Weighted
	// works are the layers being compressed or pushed, and those that have been.
	works *works
}

// New makes a client that keeps what it fetches in store and images.
func New(store *snapshot.Store, images *Images, opts Options) (*Client, error) {
	opts, routes, err := opts.prepared()
	if err != nil {
		return nil, err
	}
	opts.Parallel = cmp.Or(opts.Parallel, 4)
	if opts.Credentials == nil {
		opts.Credentials = credentials.New(opts.ConfigDir, opts.Warn)
	}
	return &Client{
		store: store, images: images, opts: opts, routes: routes,
		pool:         opts.pool(),
		compressions: semaphore.NewWeighted(maxCompressions),
		transfers:    semaphore.NewWeighted(int64(opts.Parallel)),
		questions:    semaphore.NewWeighted(maxQuestions),
		works:        &works{byName: map[string]*work{}},
	}, nil
}

// Store returns the layer store that the client was made with.
func (c *Client) Store() *snapshot.Store { return c.store }

// Images returns the images that the client was made with.
func (c *Client) Images() *Images { return c.images }

// Options say how registries are reached. The zero value is what docker does.
type Options struct {
	// Credentials are those of the caller; nil: those that are found from ConfigDir on.
	Credentials credentials.Source
	// ConfigDir is the folder of docker's config.json; "" means $DOCKER_CONFIG,
	// else ~/.docker.
	ConfigDir string
	// Config is what the configuration files say; nil reads those of this machine.
	Config *config.Config
	// Warn is told of what is wrong with the user's files and does not stop the work; nil:
	// nobody is. It is called from several goroutines.
	Warn func(text string)
	// Mirrors are lines "REGISTRY=URL" (docker.io=http://127.0.0.1:5000). Mirrors
	// of one registry are tried in order, then those of the environment and the
	// configuration files, then the registry itself.
	Mirrors []string
	// Insecure are registries (host[:port] or CIDR) that may be reached by http
	// or with a certificate that does not verify.
	Insecure []string
	// Verify says of all registries whether their certificates are verified, and http is
	// refused; nil: unless they are insecure.
	Verify *bool
	// CertDir, unless "", has certificates for all registries, beside those that docker
	// and podman have for each.
	CertDir string
	// UserAgent is sent with every request.
	UserAgent string
	// Parallel is how many blobs are transferred at once (0: 4).
	Parallel int
	Retry    Retry
	Timeouts Timeouts
}

// prepared completes the options with the files of this machine, and finds the ways to
// registries.
func (o Options) prepared() (Options, *routing.Table, error) {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.Config == nil {
		cfg, err := config.SystemFiles().Read()
		if err != nil {
			return o, nil, err
		}
		o.Config = cfg
		for _, p := range cfg.Problems {
			o.Warn(p)
		}
	}
	routes, err := routing.New(o.Mirrors, o.Insecure, o.Verify, o.Config)
	return o, routes, err
}

func (o Options) pool() *transport.Pool {
	return transport.NewPool(transport.Options{
		Credentials: o.Credentials, Certs: o.certs(), UserAgent: o.UserAgent, Retry: o.Retry, Timeouts: o.Timeouts, Warn: o.Warn,
	})
}

// certs are where docker and podman, for the machine and for the user, have certificates.
func (o Options) certs() transport.Certs {
	c := transport.Certs{Folders: []string{"/etc/docker/certs.d", "/etc/containers/certs.d"}, Dir: o.CertDir}
	if dir := cmp.Or(o.ConfigDir, config.DockerFolder()); dir != "" {
		c.Folders = append(c.Folders, filepath.Join(dir, "certs.d"))
	}
	if dir := config.UserFolder(); dir != "" {
		c.Folders = append(c.Folders, filepath.Join(dir, "containers", "certs.d"))
	}
	return c
}

// PushOptions say what a pushed image looks like.
type PushOptions struct {
	// DockerTypes makes Docker's media types where the image has no manifest yet.
	DockerTypes bool
	// Insecure treats this registry as an insecure one, for this push.
	Insecure bool
	// Compression is that of layers which PushLayers sends for an image of another
	// form; an image that Shape made has it already.
	Compression Compression
	// ByDigest gives the image no tag.
	ByDigest bool
}
