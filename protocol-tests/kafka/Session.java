import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.Exit;
import org.slf4j.LoggerFactory;

/**
 * Runs the mains of Kafka's tools one after the other in one JVM, where each would else take a start of its own.
 *
 * <p>On standard input: a class, its arguments and its standard input; on standard output: its exit status and what
 * it printed. Lengths and counts are four bytes, big endian.
 */
public final class Session {
    private static final List<Runnable> hooks = new ArrayList<>();
    private static final ByteArrayOutputStream out = new ByteArrayOutputStream();
    private static final ByteArrayOutputStream err = new ByteArrayOutputStream();
    private static Integer status;

    public static void main(String[] none) throws Exception {
        // What is logged goes to this JVM's own standard error, whichever tool is running.
        LoggerFactory.getLogger(Session.class);
        DataInputStream requests = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream replies = new DataOutputStream(new BufferedOutputStream(System.out));
        // Once, for what is written in Scala keeps the streams that it finds first.
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        Exit.setExitProcedure(Session::end);
        Exit.setHaltProcedure(Session::end);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        while (true) {
            String tool;
            try {
                tool = text(requests);
            } catch (EOFException ended) {
                // Threads that a tool left behind do not keep this JVM.
                Runtime.getRuntime().halt(0);
                return;
            }
            String[] arguments = new String[requests.readInt()];
            for (int index = 0; index < arguments.length; index++) {
                arguments[index] = text(requests);
            }
            run(tool, arguments, bytes(requests), replies);
        }
    }

    private static void run(String tool, String[] arguments, byte[] input, DataOutputStream replies)
            throws Exception {
        System.setIn(new ByteArrayInputStream(input));
        out.reset();
        err.reset();
        status = null;
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof Ended)) {
                thrown.getCause().printStackTrace();
                status = status == null ? Integer.valueOf(1) : status;
            }
        }
        // What would run as the JVM shuts down: some tools close, and say how it went, only then.
        for (Runnable hook : hooks) {
            hook.run();
        }
        hooks.clear();
        System.out.flush();
        System.err.flush();
        replies.writeInt(status == null ? 0 : status);
        for (ByteArrayOutputStream printed : List.of(out, err)) {
            replies.writeInt(printed.size());
            printed.writeTo(replies);
        }
        replies.flush();
    }

    /** In place of the JVM's end. A tool that catches even this and exits again is held to its first word. */
    private static void end(int with, String message) {
        status = status == null ? Integer.valueOf(with) : status;
        throw new Ended();
    }

    private static String text(DataInputStream requests) throws IOException {
        return new String(bytes(requests), StandardCharsets.UTF_8);
    }

    private static byte[] bytes(DataInputStream requests) throws IOException {
        byte[] all = new byte[requests.readInt()];
        requests.readFully(all);
        return all;
    }

    private static final class Ended extends Error {
        Ended() {
            super("the tool has ended", null, false, false);
        }
    }
}
