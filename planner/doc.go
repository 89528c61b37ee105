// Package planner lowers Dockerfile stages to a graph of build steps plus the
// image configuration and history that each instruction leaves: ARG and ENV
// scoping, SHELL, ONBUILD, stage pruning, platforms, and which context paths are
// used. It runs nothing and reads no layer.
package planner
