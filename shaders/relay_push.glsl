// relay_push.glsl - what relay.glsl is told, behind all else in a kernel's push constants.
#define RELAY_PUSH layout(offset = 80) uint wait_at; uint wait_for; uint signal_at
