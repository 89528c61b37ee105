package s3

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
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
	// Retry has the pauses between attempts; how many there are is an option.
	Retry object.Retry
	// Part is the size of the parts in which blobs are sent (0: 8 MiB; S3 wants 5 at least).
	Part int
}

// New makes the place that the options describe; nothing is sent yet. Getenv finds the
// environment's variables. Errors are mistakes of the user's.
func New(a *shared.Attrs, getenv func(string) string) (*object.Place, error) {
	return Settings{}.New(a, getenv)
}

// New is New with settings.
func (s Settings) New(a *shared.Attrs, getenv func(string) string) (*object.Place, error) {
	o, err := readOptions(a, getenv)
	if err != nil {
		return nil, err
	}
	b, err := s.bucket(&o, getenv)
	if err != nil {
		return nil, err
	}
	name := "s3://" + o.bucket + "/" + o.prefix
	if o.endpoint != "" {
		name += " at " + b.at.Host
	}
	return object.NewPlace(b, object.Options{
		Name: name, Layouts: o.layouts, Parallel: o.parallel, Touch: o.touch,
		Tried: o.endpoint != "", Part: s.Part, Retry: b.client.Retry,
	}), nil
}

func (s Settings) bucket(o *options, getenv func(string) string) (*bucket, error) {
	at, err := o.address()
	if err != nil {
		return nil, err
	}
	roots, err := authorities(getenv("AWS_CA_BUNDLE"))
	if err != nil {
		return nil, err
	}
	secrets := &object.Secrets{}
	s.Retry.Attempts, s.Retry.Together = o.attempts, o.adaptive
	return &bucket{at: at, name: o.bucket, client: &object.Client{
		HTTP:    object.NewHTTP(object.NewTransport(s.Timeouts, roots)),
		Service: &service{region: o.region, keys: newRing(o.source, secrets)},
		Retry:   s.Retry,
		Clock:   &object.Clock{},
		Secrets: secrets,
	}}, nil
}

// options are the attributes of a cache of this type.
type options struct {
	bucket, region, prefix, endpoint string

	layouts            []object.Layout
	pathStyle          bool
	touch              time.Duration
	parallel, attempts int
	adaptive           bool
	source             source
}

func readOptions(a *shared.Attrs, getenv func(string) string) (options, error) {
	files := newProfiles(getenv)
	o := options{
		bucket: cmp.Or(a.Take("bucket"), getenv("AWS_BUCKET")), prefix: a.Take("prefix"),
		endpoint: cmp.Or(a.Take("endpoint_url"), getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL")),
		region:   cmp.Or(a.Take("region"), getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION")),
		touch:    24 * time.Hour,
	}
	if o.bucket == "" {
		return o, mistake.New("type=s3: bucket is missing").WithHint("give bucket=NAME, or set $AWS_BUCKET")
	}
	if o.region == "" {
		o.region = files.value("region")
	}
	if o.region == "" && o.endpoint == "" {
		return o, mistake.New("type=s3: region is missing").WithHint("give region=NAME, or set $AWS_REGION; for another service than AWS's give endpoint_url=URL")
	}
	o.region = cmp.Or(o.region, "us-east-1")
	blobs, manifests := "blobs/", "manifests/"
	if a.Has("blobs_prefix") {
		blobs = a.Take("blobs_prefix")
	}
	if a.Has("manifests_prefix") {
		manifests = a.Take("manifests_prefix")
	}
	for _, name := range orElse(a.List("name"), "buildkit") {
		o.layouts = append(o.layouts, object.Layout{Blobs: o.prefix + blobs, Index: o.prefix + manifests + name, Indexes: o.prefix + manifests})
	}
	a.Take("disable_accept_encoding") // the field is never sent
	if err := o.readLimits(a); err != nil {
		return o, err
	}
	var err error
	o.source, err = findSource(a, getenv, files, o.region)
	return o, err
}

func (o *options) readLimits(a *shared.Attrs) (err error) {
	if o.pathStyle, err = a.Bool("use_path_style", false); err != nil {
		return err
	}
	if o.parallel, err = a.Int("upload_parallelism", 4, 1); err != nil {
		return err
	}
	if o.attempts, err = a.Int("retry_max_attempts", 0, 1); err != nil {
		return err
	}
	switch mode := a.Take("retry_mode"); mode {
	case "", "standard":
	case "adaptive":
		o.adaptive = true
	default:
		return mistake.New("type=s3: retry_mode=%s: want standard or adaptive", mode)
	}
	if t := a.Take("touch_refresh"); t != "" {
		if o.touch, err = time.ParseDuration(t); err != nil || o.touch <= 0 {
			return mistake.New("type=s3: touch_refresh=%s is not a time, such as 24h", t)
		}
	}
	return nil
}

func orElse(names []string, otherwise string) []string {
	if len(names) == 0 {
		return []string{otherwise}
	}
	return names
}

// address is the URL of the bucket.
func (o *options) address() (*url.URL, error) {
	text := o.endpoint
	if text == "" {
		text = "https://s3." + o.region + "." + domain(o.region)
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, mistake.New("type=s3: endpoint_url is not a URL such as https://s3.example.com")
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	u.Path = strings.TrimSuffix(u.Path, "/")
	// A host cannot be an address with a name before it, nor can a certificate for *.HOST
	// stand for a name with dots.
	direct := net.ParseIP(u.Hostname()) != nil || u.Hostname() == "localhost" || u.Scheme == "https" && strings.Contains(o.bucket, ".")
	if o.pathStyle || direct {
		u.Path += "/" + o.bucket
	} else {
		u.Host = o.bucket + "." + u.Host
	}
	return u, nil
}

// domain is where AWS has its services of a region.
func domain(region string) string {
	if strings.HasPrefix(region, "cn-") {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// authorities are the system's and those of a file, nil if there is none.
func authorities(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, mistake.New("$AWS_CA_BUNDLE: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, mistake.New("$AWS_CA_BUNDLE: %s has no certificates", path)
	}
	return pool, nil
}

func partName(n int) string { return strconv.Itoa(n + 1) }

func copyRange(first, last int64) string { return fmt.Sprintf("bytes=%d-%d", first, last) }
