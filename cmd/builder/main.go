// Command builder builds container images from Dockerfiles.
package main

func main() {}
