package cli

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"layered.build/builder/executor/local"
	"layered.build/builder/executor/source"
)

// openRemote prepares fetching what the build takes from other machines.
func (j *job) openRemote() error {
	sock, err := j.gitAgent()
	if err != nil {
		return err
	}
	j.remote, err = source.NewRemote(source.RemoteOptions{
		Dir: j.engine.path("sources"), Secrets: j.secrets, Version: j.app.version, SSHAuthSock: sock,
		LocalGit: j.context.remote != nil && j.context.remote.git != nil && j.context.remote.git.Local,
	})
	return err
}

// gitAgent is the socket of the ssh agent for git: that of --ssh default, else the
// user's. Closing the job ends it.
func (j *job) gitAgent() (string, error) {
	if j.agents["default"] == nil {
		return os.Getenv("SSH_AUTH_SOCK"), nil
	}
	dir, err := os.MkdirTemp("", "builder-ssh-")
	if err != nil {
		return "", err
	}
	sock, stop, err := local.AgentSocket(dir, func() (io.ReadWriteCloser, error) {
		return j.agents.Dial(context.Background(), "default")
	})
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	j.endAgent = func() error { return errors.Join(stop(), os.RemoveAll(dir)) }
	return sock, nil
}

// closeRemote ends what openRemote began.
func (j *job) closeRemote() error {
	var errs []error
	if j.remote != nil {
		errs = append(errs, j.remote.Close())
	}
	if j.endAgent != nil {
		errs = append(errs, j.endAgent())
	}
	return errors.Join(errs...)
}

// isRemoteFailure reports whether another machine failed, or the way to it.
func isRemoteFailure(err error) bool {
	var down *source.UnreachableError
	var status *source.StatusError
	var git *source.GitError
	var missing *source.GitMissingError
	return errors.As(err, &down) || errors.As(err, &status) || errors.As(err, &git) || errors.As(err, &missing)
}

// isRemoteMistake reports whether a source does not hold what it was said to hold.
func isRemoteMistake(err error) bool {
	return errors.As(err, new(*source.NoRefError)) || errors.As(err, new(*source.GitChecksumError)) ||
		errors.As(err, new(*source.SubdirError)) || errors.As(err, new(*source.ChecksumError))
}

// remoteHints says what to do about an error of a source of another machine.
func remoteHints(err error) []string {
	var status *source.StatusError
	if errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden) {
		return []string{"if the server wants a token, give it with --secret id=HTTP_AUTH_TOKEN_" + hostOf(status.URL) + ",env=NAME"}
	}
	var git *source.GitError
	switch {
	case errors.As(err, new(*source.GitMissingError)):
		return []string{"install git (apt-get install git)"}
	case !errors.As(err, &git):
		return nil
	case strings.Contains(git.Stderr, "ssh: not found"), strings.Contains(git.Stderr, "cannot run ssh"):
		return []string{"install ssh (apt-get install openssh-client)"}
	case git.Unauthorized() && strings.HasPrefix(git.Remote, "http"):
		return []string{"if the repository is private, give a token with --secret id=GIT_AUTH_TOKEN,env=NAME"}
	case git.Unauthorized():
		return []string{"git over ssh takes keys from --ssh default=KEYFILE, or from the agent at $SSH_AUTH_SOCK: does it have one (ssh-add -l)?"}
	}
	return nil
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "HOST"
	}
	return u.Hostname()
}
