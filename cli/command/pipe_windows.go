package command

import "io"

// onPipeClosed does nothing: on Windows a command learns that its reader has gone when it writes.
func onPipeClosed(io.Writer, func()) {}
