// The variables by which Enter tells the program, executed anew, what to do.
#define ROOTLESS_HOW "_BUILDER_USERNS"           // "mapped" or "single"
#define ROOTLESS_UIDS "_BUILDER_USERNS_UIDS"     // "PROGRAM MAP" or MAP
#define ROOTLESS_GIDS "_BUILDER_USERNS_GIDS"     // as before
#define ROOTLESS_MOUNTS "_BUILDER_USERNS_MOUNTS" // a mount namespace, too

int rootless_entered(void);
const char *rootless_failure(void);
