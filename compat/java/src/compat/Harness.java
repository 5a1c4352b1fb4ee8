package compat;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs named cases and reports each on a line of its own, as compat/run reads them:
 * {@code ok NAME}, {@code not ok NAME: reason}, {@code ok NAME # SKIP reason}, after a plan {@code 1..N}.
 */
final class Harness {
    /** One case. It gets an environment with a znode of its own and fails by throwing. */
    interface Case {
        void run(World world) throws Exception;
    }

    /** Thrown by a case that this server or set-up cannot run. */
    static final class Skip extends Exception {
        Skip(String reason) {
            super(reason);
        }
    }

    private static final long CASE_LIMIT_S = 90;

    private final Map<String, Case> cases = new LinkedHashMap<>();

    void add(String name, Case body) {
        if (cases.put(name, body) != null) {
            throw new IllegalArgumentException("two cases named " + name);
        }
    }

    /** {@code --connect HOST:PORT [--list] [NAME...]}; returns the exit status. */
    int main(String[] arguments) throws Exception {
        String address = null;
        List<String> chosen = new ArrayList<>();
        for (int i = 0; i < arguments.length; i++) {
            if (arguments[i].equals("--list")) {
                cases.keySet().forEach(System.out::println);
                return 0;
            } else if (arguments[i].equals("--connect") && i + 1 < arguments.length) {
                address = arguments[++i];
            } else if (cases.containsKey(arguments[i])) {
                chosen.add(arguments[i]);
            } else {
                System.err.println("neither an option nor a case: " + arguments[i]);
                return 2;
            }
        }
        if (address == null) {
            System.err.println("usage: --connect HOST:PORT [--list] [NAME...]");
            return 2;
        }
        if (chosen.isEmpty()) {
            chosen.addAll(cases.keySet());
        }
        System.out.println("1.." + chosen.size());
        int passed = 0;
        int failed = 0;
        int skipped = 0;
        for (String name : chosen) {
            long started = System.nanoTime();
            String skip = null;
            String failure = null;
            try {
                runOne(name, address);
            } catch (Skip why) {
                skip = why.getMessage();
            } catch (Throwable problem) {
                failure = describe(problem);
            }
            System.err.printf("%s took %d ms%n", name, TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - started));
            if (skip != null) {
                skipped++;
                System.out.println("ok " + name + " # SKIP " + skip);
            } else if (failure != null) {
                failed++;
                System.out.println("not ok " + name + ": " + failure);
            } else {
                passed++;
                System.out.println("ok " + name);
            }
            System.out.flush();
        }
        System.out.printf("# %d passed, %d failed, %d skipped%n", passed, failed, skipped);
        return failed == 0 ? 0 : 1;
    }

    private void runOne(String name, String address) throws Throwable {
        World world = new World(address, name);
        FutureTask<Void> task = new FutureTask<>(() -> {
            world.prepare();
            cases.get(name).run(world);
            return null;
        });
        Thread thread = new Thread(task, name);
        thread.setDaemon(true);
        thread.start();
        try {
            task.get(CASE_LIMIT_S, TimeUnit.SECONDS);
        } catch (ExecutionException wrapped) {
            throw wrapped.getCause();
        } catch (TimeoutException hung) {
            StringBuilder where = new StringBuilder("hangs");
            for (StackTraceElement frame : thread.getStackTrace()) {
                if (frame.getClassName().startsWith("compat.")) {
                    where.append(" at ").append(frame);
                }
            }
            throw new AssertionError(where.toString());
        } finally {
            Thread cleaner = new Thread(world::close);
            cleaner.setDaemon(true);
            cleaner.start();
            cleaner.join(TimeUnit.SECONDS.toMillis(20));
        }
    }

    private static String describe(Throwable problem) {
        StringWriter trace = new StringWriter();
        problem.printStackTrace(new PrintWriter(trace));
        System.err.println(trace);
        String text = problem.toString();
        for (StackTraceElement frame : problem.getStackTrace()) {
            if (frame.getClassName().startsWith("compat.") && !frame.getClassName().equals("compat.Check")) {
                text += " (" + frame.getFileName() + ":" + frame.getLineNumber() + ")";
                break;
            }
        }
        return text.replaceAll("\\s+", " ");
    }
}
