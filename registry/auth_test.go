package registry

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// authServer is a registry behind a token server (bearer) or basic credentials.
func authServer(t *testing.T, bearer bool) *testRegistry {
	t.Helper()
	reg := newTestRegistry(t)
	reg.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		user, pass, _ := r.BasicAuth()
		good := user == "alice" && pass == "s3cret-word"
		if bearer && r.URL.Path == "/token" {
			if !good {
				w.WriteHeader(http.StatusUnauthorized)
				fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no: %s"}]}`, pass)
				return true
			}
			json.NewEncoder(w).Encode(map[string]string{"token": "tok " + strings.Join(r.URL.Query()["scope"], " ")})
			return true
		}
		if bearer {
			tok := r.Header.Get("Authorization")
			good = strings.HasPrefix(tok, "Bearer tok ") && (r.Method == http.MethodGet || r.Method == http.MethodHead || strings.Contains(tok, "push"))
		}
		if good {
			return false
		}
		if bearer {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="a, \"b\"",scope="repository:x:pull"`, reg.host))
		} else {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		}
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
		return true
	})
	return reg
}

func TestAuthentication(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		t.Run(fmt.Sprintf("bearer=%v", bearer), func(t *testing.T) {
			home := isolate(t)
			reg := authServer(t, bearer)
			login := func(pass string) {
				writeFileT(t, filepath.Join(home, ".docker/config.json"), `{"auths":{"`+reg.host+`":{"auth":"`+basic("alice", pass)+`"}}}`, 0o600)
			}
			login("s3cret-word")
			c := newTestClient(t, quick)
			img := testImage(t, c, "app", 100)
			mustPush(t, c, reg.host+"/app", img)
			b := newTestClient(t, quick)
			sameImage(t, c, img, b, mustPull(t, b, reg.host+"/app"))

			login("wr0ng-word")
			_, err := newTestClient(t, quick).Resolve(t.Context(), reg.host+"/app", amd64)
			var e *Error
			if !errors.Is(err, ErrUnauthorized) || !errors.As(err, &e) || !strings.Contains(e.Credentials, `user "alice"`) ||
				!strings.Contains(e.Hint, "builder login "+reg.host) || e.Status != 401 {
				t.Errorf("%v, %+v", err, e)
			}
			if strings.Contains(err.Error(), "wr0ng-word") || strings.Contains(err.Error(), basic("alice", "wr0ng-word")) {
				t.Errorf("the error shows the password: %v", err)
			}
			if err := os.Remove(filepath.Join(home, ".docker/config.json")); err != nil {
				t.Fatal(err)
			}
			_, err = newClientOn(t, c.store, quick).Push(t.Context(), reg.host+"/app", img, PushOptions{})
			if !errors.Is(err, ErrUnauthorized) || !strings.Contains(err.Error(), "credentials: none") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTokenServerBesideTheRegistry(t *testing.T) {
	home := isolate(t)
	tokens := authServer(t, true) // only its /token is used
	reg := newTestRegistry(t)
	reg.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer tok ") {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="s"`, tokens.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	// The credentials are those of the registry, whose token server is elsewhere.
	writeFileT(t, filepath.Join(home, ".docker/config.json"), `{"auths":{"`+reg.host+`":{"auth":"`+basic("alice", "s3cret-word")+`"}}}`, 0o600)
	c := newTestClient(t, quick)
	mustPush(t, c, reg.host+"/app", testImage(t, c, "app", 10))
	if n := count(tokens.take(), "GET", "/token"); n == 0 {
		t.Error("the token server was not asked")
	}
}

func TestInsecureTLS(t *testing.T) {
	reg, a, img, _ := pushed(t)
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reg.Config.Handler.ServeHTTP(w, r) }))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	defer front.Close()
	host := strings.TrimPrefix(front.URL, "https://")
	opts := quick
	opts.Mirrors = []string{"secure.example=https://" + host}
	_, err := newTestClient(t, opts).Resolve(t.Context(), "secure.example/app", amd64)
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown certificate: %v", err)
	}
	// Where http may be spoken, too, it is still the certificate that is wrong.
	_, err = newTestClient(t, quick).Resolve(t.Context(), host+"/app", amd64)
	if err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "HTTP") {
		t.Errorf("unknown certificate on localhost: %v", err)
	}
	opts.Insecure = []string{host}
	b := newTestClient(t, opts)
	sameImage(t, a, img, b, mustPull(t, b, "secure.example/app"))
}

// A registry on localhost that wants a client's certificate is not asked by http.
func TestClientCertificateIsMissing(t *testing.T) {
	isolate(t)
	front := httptest.NewUnstartedServer(http.NotFoundHandler())
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	front.StartTLS()
	defer front.Close()
	opts, no := quick, false
	opts.Verify = &no // it may be asked by http, too
	_, err := newTestClient(t, opts).Resolve(t.Context(), strings.TrimPrefix(front.URL, "https://")+"/app", amd64)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "certificate required") || !strings.Contains(e.Hint, "client's certificate") {
		t.Errorf("%v, %+v", err, e)
	}
}

// TestCertificates: an authority may be where docker and podman of the user have it, or in
// a folder for all registries.
func TestCertificates(t *testing.T) {
	reg, a, img, _ := pushed(t)
	front := httptest.NewUnstartedServer(reg.Config.Handler)
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	defer front.Close()
	host := strings.TrimPrefix(front.URL, "https://")
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}))
	no := false
	for name, set := range map[string]func(home string, o *Options){
		"docker's": func(home string, _ *Options) { writeFileT(t, home+"/.docker/certs.d/"+host+"/ca.crt", ca, 0o644) },
		"podman's": func(home string, _ *Options) {
			writeFileT(t, home+"/.config/containers/certs.d/"+host+"/ca.crt", ca, 0o644)
		},
		"--cert-dir": func(home string, o *Options) {
			o.CertDir = filepath.Dir(writeFileT(t, home+"/certs/ca.crt", ca, 0o644))
		},
		"no --tls-verify": func(_ string, o *Options) { o.Verify = &no },
	} {
		t.Run(name, func(t *testing.T) {
			opts := quick
			set(isolate(t), &opts)
			b := newTestClient(t, opts)
			sameImage(t, a, img, b, mustPull(t, b, host+"/app"))
		})
	}
}
