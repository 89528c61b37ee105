// Package reapi keeps a shared cache in a cache of the Remote Execution API (type=reapi):
// bazel-remote, Buildbarn, BuildBuddy, NativeLink and others. Blobs are in its
// ContentAddressableStorage. The index of a scope is the result of an action that only
// names it; that result's output files are the index and all blobs that it names, so that
// servers keep them together or forget them together
// (github.com/bazelbuild/remote-apis, remote_execution.proto; docs/adr/0023-remote-execution-caches.md).
package reapi
