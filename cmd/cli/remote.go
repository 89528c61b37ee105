package cli

import (
	"errors"
	"net/http"
	"net/url"
	"os"

	"layered.build/builder/executor/source"
)

// openRemote prepares fetching what the build takes from other machines.
func (j *job) openRemote() (err error) {
	j.remote, err = source.NewRemote(source.RemoteOptions{
		Dir: j.engine.path("sources"), Secrets: j.secrets, Version: j.app.version,
		SSHAuthSock: os.Getenv("SSH_AUTH_SOCK"),
	})
	return err
}

// isRemoteFailure reports whether another machine failed, or the way to it.
func isRemoteFailure(err error) bool {
	var down *source.UnreachableError
	var status *source.StatusError
	return errors.As(err, &down) || errors.As(err, &status)
}

// remoteHints says what to do about an error of a source of another machine.
func remoteHints(err error) []string {
	var status *source.StatusError
	if errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden) {
		host := "HOST"
		if u, err := url.Parse(status.URL); err == nil {
			host = u.Hostname()
		}
		return []string{"if the server wants a token, give it with --secret id=HTTP_AUTH_TOKEN_" + host + ",env=NAME"}
	}
	return nil
}
