// What an application does with the client, step by step: steps URL CLUSTER
//
// Prints a line for each step that went as documented. `?` lines ask the test to do something to the servers.
// It ends at the first thing that is not as it should be, and says which.

#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LIMIT_SECONDS 30
#define MESSAGES_MAX 100000
#define WINDOW 50

static const char *url;
static const char *cluster;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void done(const char *step)
{
    puts(step);
    fflush(stdout);
}

// What the server said, without the place in the client that the client puts before it.
static const char *refusal(void)
{
    const char *text = nats_GetLastError(NULL);
    const char *place = strstr(text, "): ");
    return place == NULL ? text : place + 3;
}

#define ENSURE(condition)                                                                  \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "steps.c:%d: not so: %s\n", __LINE__, #condition);             \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

#define OK(call)                                                                           \
    do {                                                                                   \
        natsStatus status_ = (call);                                                       \
        if (status_ != NATS_OK) {                                                          \
            fprintf(stderr, "steps.c:%d: %s: %s (%s)\n", __LINE__, #call,                  \
                    natsStatus_GetText(status_), nats_GetLastError(NULL));                 \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

// Waits, with `lock` held, until the condition holds.
#define WAIT_UNTIL(condition)                                                              \
    do {                                                                                   \
        struct timespec by_ = limit();                                                     \
        while (!(condition)) {                                                             \
            if (pthread_cond_timedwait(&changed, &lock, &by_) != 0) {                      \
                fprintf(stderr, "steps.c:%d: waited in vain: %s\n", __LINE__, #condition); \
                exit(1);                                                                   \
            }                                                                              \
        }                                                                                  \
    } while (0)

static struct timespec limit(void)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += LIMIT_SECONDS;
    return at;
}

// A subscription and what it received.
typedef struct {
    stanSubscription *subscription;
    stanMsg **messages;
    int count;
    // Of those, how many came for the second time.
    int again;
    // For manual acks: whether this message is to be acked at once.
    bool (*acks)(stanMsg *message);
} Received;

static void receive(stanConnection *connection, stanSubscription *subscription, const char *channel, stanMsg *message,
                    void *closure)
{
    Received *received = closure;
    (void)connection;
    (void)channel;
    if (received->acks != NULL && received->acks(message))
        OK(stanSubscription_AckMsg(subscription, message));
    pthread_mutex_lock(&lock);
    ENSURE(received->count < MESSAGES_MAX);
    received->messages[received->count++] = message;
    received->again += stanMsg_IsRedelivered(message);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

typedef struct {
    const char *group;
    const char *durable;
    bool everything;
    bool last;
    uint64_t sequence;
    // In seconds, from now.
    int64_t time;
    bool manual;
    bool (*acks)(stanMsg *message);
    int ack_wait_ms;
    int max_in_flight;
} Wish;

static natsStatus subscribe(Received *received, stanConnection *connection, const char *channel, Wish wish)
{
    memset(received, 0, sizeof *received);
    received->messages = calloc(MESSAGES_MAX, sizeof *received->messages);
    received->acks = wish.acks;
    stanSubOptions *options;
    OK(stanSubOptions_Create(&options));
    if (wish.durable != NULL)
        OK(stanSubOptions_SetDurableName(options, wish.durable));
    if (wish.everything)
        OK(stanSubOptions_DeliverAllAvailable(options));
    if (wish.last)
        OK(stanSubOptions_StartWithLastReceived(options));
    if (wish.sequence != 0)
        OK(stanSubOptions_StartAtSequence(options, wish.sequence));
    if (wish.time != 0)
        OK(stanSubOptions_StartAtTime(options, nats_Now() + wish.time * 1000));
    if (wish.ack_wait_ms != 0)
        OK(stanSubOptions_SetAckWait(options, wish.ack_wait_ms));
    if (wish.max_in_flight != 0)
        OK(stanSubOptions_SetMaxInflight(options, wish.max_in_flight));
    OK(stanSubOptions_SetManualAckMode(options, wish.manual));
    natsStatus status =
        wish.group == NULL
            ? stanConnection_Subscribe(&received->subscription, connection, channel, receive, received, options)
            : stanConnection_QueueSubscribe(&received->subscription, connection, channel, wish.group, receive,
                                            received, options);
    stanSubOptions_Destroy(options);
    return status;
}

static void at_least(Received *received, int count)
{
    pthread_mutex_lock(&lock);
    WAIT_UNTIL(received->count >= count);
    pthread_mutex_unlock(&lock);
}

// Whether exactly these sequences came, in this order.
static bool are(Received *received, int count, const uint64_t *sequences)
{
    pthread_mutex_lock(&lock);
    bool same = received->count == count;
    for (int i = 0; same && i < count; i++)
        same = stanMsg_GetSequence(received->messages[i]) == sequences[i];
    pthread_mutex_unlock(&lock);
    return same;
}
#define ARE(received, ...)                                                                 \
    are(received, sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), (uint64_t[]){__VA_ARGS__})

static void unsubscribe(Received *received)
{
    OK(stanSubscription_Unsubscribe(received->subscription));
}

static void publish(stanConnection *connection, const char *channel, int number)
{
    char text[64];
    int length = snprintf(text, sizeof text, "%s %d", channel, number);
    OK(stanConnection_Publish(connection, channel, text, length));
}

static void publish_all(stanConnection *connection, const char *channel, int count)
{
    for (int number = 1; number <= count; number++)
        publish(connection, channel, number);
}

// Returns when everything that the servers had sent before has arrived and been looked at.
static void fence(stanConnection *connection)
{
    static int fences;
    char channel[32];
    Received received;
    snprintf(channel, sizeof channel, "fence.%d", ++fences);
    OK(subscribe(&received, connection, channel, (Wish){0}));
    publish(connection, channel, 1);
    at_least(&received, 1);
    unsubscribe(&received);
}

static char lost[256];

static void note_loss(stanConnection *connection, const char *reason, void *closure)
{
    (void)connection;
    (void)closure;
    pthread_mutex_lock(&lock);
    snprintf(lost, sizeof lost, "%s", reason);
    pthread_mutex_unlock(&lock);
}

static natsStatus connect_as(stanConnection **connection, const char *client_id)
{
    stanConnOptions *options;
    OK(stanConnOptions_Create(&options));
    OK(stanConnOptions_SetURL(options, url));
    OK(stanConnOptions_SetPings(options, 1, 3));
    OK(stanConnOptions_SetConnectionLostHandler(options, note_loss, NULL));
    natsStatus status = stanConnection_Connect(connection, cluster, client_id, options);
    stanConnOptions_Destroy(options);
    return status;
}

// Publishes without waiting: how many were sent and acked, and whether one was refused.
static int sent, acked, refused;
static bool *was_acked;

static void note_ack(const char *guid, const char *error, void *closure)
{
    (void)guid;
    pthread_mutex_lock(&lock);
    if (error != NULL) {
        fprintf(stderr, "refused: %s\n", error);
        refused++;
    } else if (was_acked != NULL) {
        was_acked[(intptr_t)closure] = true;
    }
    acked++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void publish_async(stanConnection *connection, const char *channel, int number)
{
    char text[64];
    int length = snprintf(text, sizeof text, "%s %d", channel, number);
    pthread_mutex_lock(&lock);
    sent++;
    pthread_mutex_unlock(&lock);
    OK(stanConnection_PublishAsync(connection, channel, text, length, note_ack, (void *)(intptr_t)number));
}

static void wait_for_acks(void)
{
    pthread_mutex_lock(&lock);
    WAIT_UNTIL(acked == sent);
    ENSURE(refused == 0);
    pthread_mutex_unlock(&lock);
}

static void start_positions(stanConnection *connection)
{
    uint64_t all[21];
    for (int i = 0; i < 21; i++)
        all[i] = i + 1;
    struct {
        const char *step;
        Wish wish;
        // The last so many of all.
        int count;
    } positions[] = {
        {"started with new messages", {0}, 1},
        {"started with the last message", {.last = true}, 2},
        {"started at the first message", {.everything = true}, 21},
        {"started at a sequence", {.sequence = 18}, 4},
        {"started an hour ago", {.time = -3600}, 21},
        {"started at a time to come", {.time = 3600}, 1},
    };
    Received received[6];
    for (int i = 0; i < 6; i++)
        OK(subscribe(&received[i], connection, "orders", positions[i].wish));
    publish(connection, "orders", 21);
    fence(connection);
    for (int i = 0; i < 6; i++) {
        int count = positions[i].count;
        at_least(&received[i], count);
        ENSURE(are(&received[i], count, &all[21 - count]));
        const stanMsg *last = received[i].messages[count - 1];
        ENSURE(stanMsg_GetDataLength(last) == 9 && memcmp(stanMsg_GetData(last), "orders 21", 9) == 0);
        unsubscribe(&received[i]);
        done(positions[i].step);
    }
}

static bool all_but_the_second(stanMsg *message)
{
    return stanMsg_GetSequence(message) != 2 || stanMsg_IsRedelivered(message);
}

static void acks(stanConnection *connection)
{
    Received tasks, slowly;
    publish_all(connection, "tasks", 3);
    OK(subscribe(&tasks, connection, "tasks",
                 (Wish){.everything = true, .manual = true, .acks = all_but_the_second, .ack_wait_ms = 1000}));
    at_least(&tasks, 4);
    fence(connection);
    ENSURE(ARE(&tasks, 1, 2, 3, 2));
    ENSURE(tasks.again == 1 && stanMsg_IsRedelivered(tasks.messages[3]));
    unsubscribe(&tasks);
    done("a message that was not acked came again, marked as redelivered; the others did not");

    publish_all(connection, "slowly", 6);
    OK(subscribe(&slowly, connection, "slowly", (Wish){.everything = true, .manual = true, .max_in_flight = 2}));
    at_least(&slowly, 2);
    fence(connection);
    ENSURE(ARE(&slowly, 1, 2));
    OK(stanSubscription_AckMsg(slowly.subscription, slowly.messages[0]));
    at_least(&slowly, 3);
    fence(connection);
    ENSURE(ARE(&slowly, 1, 2, 3));
    for (int next = 1; next < 6; next++) {
        at_least(&slowly, next + 1);
        OK(stanSubscription_AckMsg(slowly.subscription, slowly.messages[next]));
    }
    ENSURE(ARE(&slowly, 1, 2, 3, 4, 5, 6));
    OK(stanSubscription_Close(slowly.subscription));
    done("no more messages were in flight than allowed");
}

static void durables(stanConnection *connection)
{
    Wish durable = {.everything = true, .durable = "books"};
    Received bills, refused_one;
    publish_all(connection, "bills", 3);
    OK(subscribe(&bills, connection, "bills", durable));
    at_least(&bills, 3);
    ENSURE(subscribe(&refused_one, connection, "bills", durable) != NATS_OK);
    printf("a second subscription to the durable is refused: %s\n", refusal());
    // The client acks after the callback: so the acks are on their way.
    fence(connection);
    OK(stanSubscription_Close(bills.subscription));
    publish(connection, "bills", 4);
    OK(subscribe(&bills, connection, "bills", durable));
    at_least(&bills, 1);
    fence(connection);
    ENSURE(ARE(&bills, 4));
    done("a durable that was closed went on after its last message");
    unsubscribe(&bills);
    OK(subscribe(&bills, connection, "bills", durable));
    at_least(&bills, 4);
    ENSURE(ARE(&bills, 1, 2, 3, 4));
    unsubscribe(&bills);
    done("a durable that was unsubscribed began anew");
}

static void queues(stanConnection *connection)
{
    Received first, second, parcels;
    OK(subscribe(&first, connection, "jobs", (Wish){.group = "workers"}));
    OK(subscribe(&second, connection, "jobs", (Wish){.group = "workers"}));
    publish_all(connection, "jobs", 20);
    fence(connection);
    pthread_mutex_lock(&lock);
    WAIT_UNTIL(first.count + second.count >= 20);
    bool seen[21] = {false};
    for (int i = 0; i < first.count + second.count; i++) {
        stanMsg *message = i < first.count ? first.messages[i] : second.messages[i - first.count];
        uint64_t sequence = stanMsg_GetSequence(message);
        ENSURE(sequence >= 1 && sequence <= 20 && !seen[sequence]);
        seen[sequence] = true;
    }
    ENSURE(first.count > 0 && second.count > 0);
    pthread_mutex_unlock(&lock);
    unsubscribe(&first);
    unsubscribe(&second);
    done("two members of a queue group shared its messages");

    Wish member = {.everything = true, .durable = "books", .group = "shippers"};
    publish_all(connection, "parcels", 2);
    OK(subscribe(&parcels, connection, "parcels", member));
    at_least(&parcels, 2);
    fence(connection);
    OK(stanSubscription_Close(parcels.subscription));
    publish(connection, "parcels", 3);
    OK(subscribe(&parcels, connection, "parcels", member));
    at_least(&parcels, 1);
    fence(connection);
    ENSURE(ARE(&parcels, 3));
    unsubscribe(&parcels);
    done("a durable queue group without members kept its place");
}

static void pings(stanConnection *connection)
{
    char subject[256];
    natsConnection *nats;
    natsSubscription *requests, *answers;
    natsMsg *message;
    snprintf(subject, sizeof subject, "_STAN.discover.%s.pings", cluster);
    OK(stanConnection_GetNATSConnection(connection, &nats));
    OK(natsConnection_SubscribeSync(&requests, nats, subject));
    OK(natsSubscription_NextMsg(&message, requests, LIMIT_SECONDS * 1000));
    OK(natsConnection_SubscribeSync(&answers, nats, natsMsg_GetReply(message)));
    natsMsg_Destroy(message);
    for (int answer = 0; answer < 2; answer++) {
        OK(natsSubscription_NextMsg(&message, answers, LIMIT_SECONDS * 1000));
        ENSURE(natsMsg_GetDataLength(message) == 0);
        natsMsg_Destroy(message);
    }
    natsSubscription_Destroy(requests);
    natsSubscription_Destroy(answers);
    stanConnection_ReleaseNATSConnection(connection);
    done("pings were answered");
}

static bool killed;

static void *wait_for_answer(void *closure)
{
    char line[64];
    (void)closure;
    ENSURE(fgets(line, sizeof line, stdin) != NULL && strcmp(line, "killed\n") == 0);
    pthread_mutex_lock(&lock);
    killed = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static bool the_second_time(stanMsg *message)
{
    return stanMsg_IsRedelivered(message);
}

static void through_the_death_of_the_active(stanConnection *connection)
{
    Received held, through;
    publish_all(connection, "held", 3);
    OK(subscribe(&held, connection, "held",
                 (Wish){.everything = true, .manual = true, .acks = the_second_time, .ack_wait_ms = 2000}));
    at_least(&held, 3);
    OK(subscribe(&through, connection, "through", (Wish){.everything = true}));

    pthread_t asking;
    bool asked = false;
    int published = 0;
    sent = acked = 0;
    was_acked = calloc(MESSAGES_MAX, sizeof *was_acked);
    for (int goal = MESSAGES_MAX - 1; published < goal;) {
        publish_async(connection, "through", ++published);
        pthread_mutex_lock(&lock);
        WAIT_UNTIL(sent - acked < WINDOW);
        if (!asked && through.count > 200) {
            asked = true;
            done("? kill the active");
            ENSURE(pthread_create(&asking, NULL, wait_for_answer, NULL) == 0);
        }
        if (killed && goal == MESSAGES_MAX - 1)
            goal = published + 500;
        pthread_mutex_unlock(&lock);
    }
    ENSURE(killed);
    pthread_join(asking, NULL);
    wait_for_acks();
    done("every publish around the death of the active was acked");

    bool *seen = calloc(MESSAGES_MAX, sizeof *seen);
    int looked_at = 0, missing = published;
    uint64_t before = 0;
    pthread_mutex_lock(&lock);
    while (missing > 0) {
        WAIT_UNTIL(through.count > looked_at);
        stanMsg *message = through.messages[looked_at++];
        int number;
        char text[64] = {0};
        memcpy(text, stanMsg_GetData(message), stanMsg_GetDataLength(message));
        ENSURE(sscanf(text, "through %d", &number) == 1 && number >= 1 && number <= published);
        ENSURE(was_acked[number]);
        // What was sent and not noted before the end comes as if for the first time.
        bool first = !seen[number];
        missing -= first;
        seen[number] = true;
        if (first && !stanMsg_IsRedelivered(message)) {
            ENSURE(stanMsg_GetSequence(message) > before);
            before = stanMsg_GetSequence(message);
        }
    }
    pthread_mutex_unlock(&lock);
    done("a subscription went on through it");

    bool again[4] = {false};
    pthread_mutex_lock(&lock);
    for (looked_at = 0; !(again[1] && again[2] && again[3]); looked_at++) {
        WAIT_UNTIL(held.count > looked_at);
        uint64_t sequence = stanMsg_GetSequence(held.messages[looked_at]);
        ENSURE(sequence >= 1 && sequence <= 3);
        again[sequence] = again[sequence] || stanMsg_IsRedelivered(held.messages[looked_at]);
    }
    pthread_mutex_unlock(&lock);
    done("what was unacked came again, marked as redelivered");
    unsubscribe(&held);
    unsubscribe(&through);
}

int main(int count, char **arguments)
{
    stanConnection *connection, *second;
    ENSURE(count == 3);
    url = arguments[1];
    cluster = arguments[2];

    OK(connect_as(&connection, "steps"));
    done("connected");
    ENSURE(connect_as(&second, "steps") != NATS_OK);
    printf("a second client with the same ID is refused: %s\n", refusal());

    publish(connection, "orders", 1);
    done("published one message and got its ack");
    for (int number = 2; number <= 20; number++)
        publish_async(connection, "orders", number);
    wait_for_acks();
    done("published 19 messages without waiting and got their acks");

    start_positions(connection);
    acks(connection);
    durables(connection);
    queues(connection);
    pings(connection);
    through_the_death_of_the_active(connection);

    ENSURE(lost[0] == 0);
    OK(stanConnection_Close(connection));
    done("closed");
    return 0;
}
