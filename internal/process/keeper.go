package process

import "errors"

// keeperVariable tells the daemon the pid of its keeper.
const keeperVariable = "SHANNON_KEEPER"

// ErrKeeperGone says that the keeper died before the daemon was ready to follow it.
var ErrKeeperGone = errors.New("the keeper of this daemon is gone")
