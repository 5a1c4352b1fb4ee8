package compat;

import java.util.Arrays;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.KeeperException;

/** What cases expect. */
final class Check {
    /** How long a condition is waited for before the case fails. */
    static final long PATIENCE_MS = 30_000;

    private Check() {}

    static void that(boolean condition, String otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }

    static void same(Object expected, Object actual) {
        if (!Objects.deepEquals(expected, actual)) {
            throw new AssertionError("expected " + shown(expected) + ", got " + shown(actual));
        }
    }

    /** The operation fails with exactly this error. */
    static KeeperException fails(KeeperException.Code code, Callable<?> operation) throws Exception {
        Object result;
        try {
            result = operation.call();
        } catch (KeeperException error) {
            if (error.code() != code) {
                throw new AssertionError("expected " + code + ", got " + error.code(), error);
            }
            return error;
        }
        throw new AssertionError("expected " + code + ", got " + shown(result));
    }

    /** Waits until the condition holds; what it says is in the failure. */
    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(PATIENCE_MS);
        while (!condition.call()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("not within " + PATIENCE_MS / 1000 + " s: " + what);
            }
            Thread.sleep(20);
        }
    }

    private static String shown(Object value) {
        return value instanceof byte[] ? Arrays.toString((byte[]) value) : String.valueOf(value);
    }
}
