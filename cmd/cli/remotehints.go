package cli

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"layered.build/builder/executor/source"
)

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
