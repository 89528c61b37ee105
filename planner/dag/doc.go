// Package dag is the closed language of build steps: what a build does, without
// a word about Dockerfiles (planner lowers those to it) and without a word about
// execution (executor walks it). It can express everything that BuildKit's LLB
// can (github.com/moby/buildkit/solver/pb).
//
// A Step is immutable once it is part of a Graph. Sharing is by pointer: two
// stages that begin alike point to the same Step.
package dag
