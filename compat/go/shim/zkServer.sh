#!/bin/sh
exec $COMPAT_STAND_IN "$@"
