package engines

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/registry"
	"layered.build/builder/registry/export/layout"
	"layered.build/builder/snapshot"
)

// Daemon is a docker engine, or something that speaks its API.
type Daemon struct {
	// Host is where it listens, as in DOCKER_HOST: unix:///var/run/docker.sock or
	// tcp://host:2376.
	Host string
	// CertDir has ca.pem, cert.pem and key.pem for a host that wants TLS; "" is
	// plain http.
	CertDir string
}

// daemonClient talks to one daemon.
type daemonClient struct {
	http *http.Client
	base string
}

func (d Daemon) client() (*daemonClient, error) {
	scheme, addr, ok := strings.Cut(d.Host, "://")
	tr := &http.Transport{DisableCompression: true}
	c := &daemonClient{http: &http.Client{Transport: tr}, base: "http://docker"}
	switch {
	case ok && scheme == "unix":
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", addr)
		}
	case ok && (scheme == "tcp" || scheme == "http") && d.CertDir == "":
		c.base = "http://" + addr
	case ok && (scheme == "tcp" || scheme == "https"):
		conf, err := clientTLS(d.CertDir)
		if err != nil {
			return nil, err
		}
		tr.TLSClientConfig = conf
		c.base = "https://" + addr
	default:
		return nil, fmt.Errorf("docker host %q: %w: want unix:// or tcp://", d.Host, registry.ErrInvalid)
	}
	return c, nil
}

func clientTLS(dir string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err == nil {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s/ca.pem: %w: no PEM certificate", dir, registry.ErrInvalid)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err == nil {
		conf.Certificates = []tls.Certificate{pair}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return conf, nil
}

// LoadDaemon gives an image to a docker engine under its names. Layers that the
// engine has in other images are not sent; of an image that it has, nothing is.
// It returns how many layers were sent.
func LoadDaemon(ctx context.Context, d Daemon, c *registry.Client, it layout.Item) (sent int, err error) {
	if it.Index != nil {
		return 0, fmt.Errorf("load into docker: %w: an image for one platform is loaded, not for %d", registry.ErrInvalid, len(it.Index.Images))
	}
	dc, err := d.client()
	if err != nil {
		return 0, err
	}
	if sent, err = dc.give(ctx, c, it); err != nil {
		return sent, fmt.Errorf("load into docker at %s: %w", d.Host, err)
	}
	return sent, nil
}

// SaveDaemon reads an image of a docker engine as a docker archive. The caller closes
// it.
func SaveDaemon(ctx context.Context, d Daemon, name string) (io.ReadCloser, error) {
	dc, err := d.client()
	if err != nil {
		return nil, err
	}
	resp, err := dc.do(ctx, http.MethodGet, "/images/"+url.PathEscape(name)+"/get", nil)
	if err != nil {
		return nil, fmt.Errorf("read %s from docker at %s: %w", name, d.Host, err)
	}
	return resp.Body, nil
}

func (d *daemonClient) give(ctx context.Context, c *registry.Client, it layout.Item) (int, error) {
	if d.keepsManifests(ctx) {
		return d.giveOCI(ctx, c, it)
	}
	there, err := d.has(ctx, it.Image.ID)
	if err != nil {
		return 0, err
	}
	if !there {
		have, err := d.chains(ctx)
		if err != nil {
			return 0, err
		}
		sent, err := d.send(ctx, c, it, have)
		var said *daemonError
		if errors.As(err, &said) && sent < len(it.Image.Stack) {
			// An engine that wants the whole archive, whatever it has.
			sent, err = d.send(ctx, c, it, nil)
		}
		return sent, err
	}
	for _, n := range it.Names {
		if err := d.tag(ctx, it.Image.ID, n); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// daemonError is what an engine answers.
type daemonError struct {
	status int
	text   string
}

// Error implements error.
func (e *daemonError) Error() string {
	if e.status == 0 {
		return e.text
	}
	return fmt.Sprintf("%d %s: %s", e.status, http.StatusText(e.status), e.text)
}

// do makes a request; the caller closes the body.
func (d *daemonClient) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := d.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	var doc struct{ Message string }
	if json.Unmarshal(text, &doc) == nil && doc.Message != "" {
		text = []byte(doc.Message)
	}
	return nil, &daemonError{status: resp.StatusCode, text: strings.TrimSpace(string(text))}
}

func (d *daemonClient) get(ctx context.Context, path string, v any) error {
	resp, err := d.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(v)
}

func (d *daemonClient) has(ctx context.Context, id digest.Digest) (bool, error) {
	var doc struct {
		ID string `json:"Id"`
	}
	err := d.get(ctx, "/images/"+id.String()+"/json", &doc)
	var said *daemonError
	if errors.As(err, &said) && said.status == http.StatusNotFound {
		return false, nil
	}
	return err == nil && doc.ID == id.String(), err
}

func (d *daemonClient) tag(ctx context.Context, id digest.Digest, name string) error {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return err
	}
	q := url.Values{"repo": {ref.Repository()}, "tag": {ref.Tag}}
	resp, err := d.do(ctx, http.MethodPost, "/images/"+id.String()+"/tag?"+q.Encode(), nil)
	if err != nil {
		return fmt.Errorf("tag %s: %w", ref.Familiar(), err)
	}
	return resp.Body.Close()
}

// maxAsked bounds the images that are looked at for layers.
const maxAsked = 500

// chains returns the layers that the engine has, by what is below them. It does not
// matter if some are missing.
func (d *daemonClient) chains(ctx context.Context) (map[digest.Digest]bool, error) {
	var list []struct {
		ID string `json:"Id"`
	}
	if err := d.get(ctx, "/images/json", &list); err != nil {
		return nil, err
	}
	list = list[:min(len(list), maxAsked)]
	found := make([][]digest.Digest, len(list))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i, img := range list {
		group.Go(func() error {
			var doc struct {
				RootFS struct{ Layers []digest.Digest }
			}
			if err := d.get(gctx, "/images/"+img.ID+"/json", &doc); err != nil && gctx.Err() != nil {
				return context.Cause(gctx)
			}
			found[i] = doc.RootFS.Layers // none of an image that is gone by now
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	have := map[digest.Digest]bool{}
	for _, layers := range found {
		var stack snapshot.Stack
		for _, l := range layers {
			stack = append(stack, snapshot.Layer{DiffID: snapshot.DiffID(l)})
			have[digest.Digest(stack.ChainID())] = true
		}
	}
	return have, nil
}

// send loads an archive without the layers that the engine has.
func (d *daemonClient) send(ctx context.Context, c *registry.Client, it layout.Item, have map[digest.Digest]bool) (int, error) {
	sent := 0
	skip := func(chain snapshot.ChainID) bool { return have[digest.Digest(chain)] }
	for i := range it.Image.Stack {
		if !skip(it.Image.Stack[:i+1].ChainID()) {
			sent++
		}
	}
	return sent, d.post(ctx, func(ctx context.Context, w io.Writer) error {
		return layout.WriteDockerPart(ctx, w, c, skip, it)
	})
}

// post loads the archive that write writes.
func (d *daemonClient) post(ctx context.Context, write func(context.Context, io.Writer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := write(ctx, pw)
		pw.CloseWithError(err)
		done <- err
	}()
	resp, err := d.do(ctx, http.MethodPost, "/images/load?quiet=1", pr)
	if err == nil {
		err = loadAnswer(resp)
	}
	pr.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	cancel()
	werr := <-done
	if err == nil || werr != nil && !errors.Is(werr, io.ErrClosedPipe) && !errors.Is(werr, context.Canceled) {
		err = errors.Join(err, werr)
	}
	return err
}

// loadAnswer reads what the engine says while it loads.
func loadAnswer(resp *http.Response) error {
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		var msg struct{ Error, Stream string }
		if json.Unmarshal(line, &msg) != nil {
			continue
		}
		if strings.HasPrefix(msg.Stream, "Error ") { // docker goes on without what it could not unpack
			msg.Error = strings.TrimSpace(msg.Stream)
		}
		if msg.Error != "" {
			return &daemonError{text: msg.Error}
		}
	}
	return nil
}
