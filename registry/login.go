package registry

import (
	"context"
	"fmt"

	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/transport"
)

// CheckLogin asks a registry (host[:port]) whether it takes a user and a password. It is
// false, which is no failure, if the registry asks for neither where it can be asked
// without naming a repository. Of the options those count that say how it is reached.
func CheckLogin(ctx context.Context, host, user, password string, o Options) (bool, error) {
	o, routes, err := o.prepared()
	if err != nil {
		return false, err
	}
	ep, err := routes.Push(Reference{Domain: host})
	if err != nil {
		return false, err
	}
	o.Credentials = transport.Given(credentials.Login(user, password, fmt.Sprintf("user %q", user)))
	return o.pool().CheckLogin(ctx, ep)
}
